"""Where encoders and scores meet: rules and thresholds that decide, and what teaches them."""
