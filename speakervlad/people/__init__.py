"""Who is enrolled, and whose voice a recording is: a lasting store, open-set identification."""
