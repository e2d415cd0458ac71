"""Ring 2: one part at a time, against the real component that it talks to."""
