"""The sale: events, bookings, and decisions about places."""
