"""What people and other systems see."""
