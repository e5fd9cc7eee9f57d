"""The expensive primitives that methods share, straight from Arrow buffers."""
