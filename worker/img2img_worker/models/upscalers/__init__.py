"""Networks that enlarge pictures, from the folders that AUTOMATIC1111 has for them."""
