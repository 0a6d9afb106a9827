"""What was seen, told to other systems over MQTT."""
