"""What the service logged, looked at again: windows, drift, quality, and what to do about it."""
