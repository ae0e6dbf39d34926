"""What happens to music on its way to a query: noise, rooms, devices, codecs, filters, speed."""
