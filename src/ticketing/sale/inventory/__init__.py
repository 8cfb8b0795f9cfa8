"""The decisions about an event's places: pure functions, with no I/O.

The invariants that every decision keeps (the database refuses the first two by constraint):

- no capacity has less than 0 places left, and every place taken belongs to one booked row;
- a place of a plain event is free only while nobody waits;
- freed places go to the head of the waiting list: nobody is passed, and a newcomer joins its tail.

Each kind of request has its own module. `kinds` lists them.
"""
