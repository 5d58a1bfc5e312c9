"""What only a GPU can show; without one these tests are skipped."""
