"""What the Triton kernels of several rooms share."""
