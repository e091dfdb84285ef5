"""What rankd is measured against: services of the same lists over the same rows, as one writes them without it."""
