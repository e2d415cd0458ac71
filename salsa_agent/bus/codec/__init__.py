"""D-Bus messages as bytes and back, without input or output."""
