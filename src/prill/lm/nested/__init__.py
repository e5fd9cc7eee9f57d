"""One training, several sizes: sub-models that share the leading part of every weight."""
