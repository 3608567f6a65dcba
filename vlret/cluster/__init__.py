"""Check a profile against the cluster, and recover a run whose driver was killed."""
