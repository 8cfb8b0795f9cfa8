"""The sale: events, ticket types, bookings, and decisions about places."""
