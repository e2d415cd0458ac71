"""What `salsactl` prints, as a person reads it."""
