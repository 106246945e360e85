"""The local page: one server on this machine, one page that it serves."""
