"""What two services or more use."""
