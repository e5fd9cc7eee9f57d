"""What training minimises: token losses and auxiliary terms; one file a published objective."""
