"""When a reading was measured and who wore the device: clocks, epochs, attribution."""
