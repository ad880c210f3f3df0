"""Planning: crops, windows and augmentations drawn into the plan of a batch. No voxel is touched."""
