"""The report card: every system on the same held-out songs, listeners and labels, over worlds and seeds."""
