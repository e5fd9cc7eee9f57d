"""What a user writes about the learning rate, and the courses it means."""
