"""What packages are built for: how targets are spelled, what this host is, and how a region is compiled for each."""
