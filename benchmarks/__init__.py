"""Fair timings against peers: the same machine, the same run, results compared before times."""
