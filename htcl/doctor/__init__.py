"""`htcl doctor`: is this machine, and this configuration, fit for a run? Each finding says what to do."""
