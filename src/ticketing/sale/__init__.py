"""The sale: events, bookings, and the decisions about places."""
