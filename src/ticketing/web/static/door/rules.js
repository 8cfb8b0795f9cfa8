// Who is let in: the rules of src/ticketing/door/rules.py, for a device without network.

/** Return the verdict of a case: that of the first rule that applies. */
export function judge({ event, rules, ticket, code, direction, at, offline }) {
  if (code && code.event !== event.id) return "wrong_event";
  if (!ticket) return offline ? "ask_online" : "unknown_ticket";
  if (ticket.status !== "valid" || event.status === "cancelled") return "cancelled";
  if (code && code.generation !== ticket.generation) return "revoked";
  if (rules.ticketTypes && !rules.ticketTypes.includes(ticket.type)) return "wrong_type_for_gate";
  if (rules.needsPayment && ticket.owes) return "unpaid";
  const use = ticket.uses[rules.name];
  if (direction === "out") return use?.inside ? "left" : "not_inside";
  const { since, until } = admits(event, rules, ticket);
  if (since !== null && at < since) return "too_early";
  if (until !== null && at >= until) return "too_late";
  if (use && (use.inside || !rules.reentry)) return "already_used";
  return "admitted";
}

/** Return when the ticket admits, in seconds: its own times if it has any, else the event's. */
export function admits(event, rules, ticket) {
  if (ticket.from !== null || ticket.until !== null) {
    return { since: ticket.from, until: ticket.until, source: "ticket" };
  }
  const opens = event.startsAt !== null && rules.opensBefore !== null;
  const since = opens ? event.startsAt - rules.opensBefore * 60 : null;
  return { since, until: event.endsAt, source: "event" };
}

/** Return the ticket as it stands after it passed a gate of the list. */
export function passed(ticket, { name }, direction, at, gate) {
  const use = ticket.uses[name] ?? { at, gate };
  return { ...ticket, uses: { ...ticket.uses, [name]: { ...use, inside: direction === "in" } } };
}
