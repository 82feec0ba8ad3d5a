"""Op-agnostic checks, driven by each room's samples.py. They know operators only through gencv_fast._dispatch.OPS."""
