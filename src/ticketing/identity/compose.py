"""Compose the part."""

from functools import partial
from typing import Final

from ticketing.identity.callers import AccessList
from ticketing.identity.part import Identity
from ticketing.identity.passwords import Passwords, password_threads
from ticketing.identity.repositories.access import AccessRepository
from ticketing.identity.repositories.customers import CustomerRepository
from ticketing.identity.repositories.keys import KeyRepository
from ticketing.identity.repositories.organisers import OrganiserRepository
from ticketing.identity.repositories.password_tokens import PasswordTokenRepository
from ticketing.identity.repositories.sessions import SessionRepository
from ticketing.identity.repositories.team import TeamRepository
from ticketing.identity.repositories.users import UserRepository
from ticketing.identity.routers import (
    customers,
    keys,
    my_sessions,
    organisers,
    password_tokens,
    sessions,
    team,
    users,
)
from ticketing.identity.routers.authentication import is_known_key
from ticketing.identity.tokens import Tokens
from ticketing.ops.loops import Loop
from ticketing.web.part import Part, Shared

LEARN_EVERY: Final = 1.0
"""Seconds until a worker knows what other processes have revoked."""
CLEAN_EVERY: Final = 60.0


def compose(shared: Shared) -> Part:
    """Return the part's routes, loops and metrics, and what to close."""
    settings, engine = shared.settings, shared.pools.requests
    access = AccessList()
    known = AccessRepository(engine, access)
    have = Identity(
        users=UserRepository(engine, access),
        sessions=SessionRepository(
            engine, access, idle=settings.refresh_lifetime, longest=settings.session_lifetime
        ),
        keys=KeyRepository(engine, access),
        team=TeamRepository(engine),
        organisers=OrganiserRepository(engine, access),
        password_tokens=PasswordTokenRepository(engine, access),
        customers=CustomerRepository(engine),
        passwords=Passwords(settings.bcrypt_rounds, password_threads()),
        tokens=Tokens(
            shared.secret,
            settings.token_lifetime,
            previous=shared.previous_secrets,
            access=access,
        ),
        access=access,
        seals=shared.seals,
        limits=shared.limits,
        registration_is_open=settings.registration == "open",
        everybody_organises=settings.organisers == "everybody",
    )
    return Part(
        have,
        routes=[
            *(team.routes, users.routes, password_tokens.routes, organisers.routes),
            *(sessions.routes, my_sessions.routes, keys.routes, customers.routes),
        ],
        loops=[
            Loop("access", known.refresh, LEARN_EVERY),
            Loop("cleaning of sessions", known.clean, CLEAN_EVERY),
        ],
        samples=[have.team.sample, have.keys.sample, have.customers.sample],
        counted_apart=[partial(is_known_key, have.tokens)],
        close=[
            *(have.customers.close, have.team.close, have.keys.close),
            have.passwords.close,
        ],
    )
