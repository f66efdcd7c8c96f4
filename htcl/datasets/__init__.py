"""Public music data sets, as people have them on disk, mapped onto the contracts: one small file a data set."""
