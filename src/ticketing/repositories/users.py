"""People and their credentials."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from ticketing.database import domain_errors
from ticketing.errors import UserNotFound
from ticketing.tables import User, uuid7


class UserRepository:
    """Reads and writes `users`."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Work on `engine`."""
        self._engine = engine

    async def add(self, username: str, password_hash: str) -> User:
        """Add a user. Raises UsernameTaken, whatever the case of the letters."""
        user = User(id=uuid7(), username=username, password_hash=password_hash)
        async with domain_errors(), AsyncSession(self._engine, expire_on_commit=False) as session:
            session.add(user)
            await session.commit()
        return user

    async def get(self, user_id: UUID) -> User:
        """Return the user. Raises UserNotFound."""
        async with domain_errors(), AsyncSession(self._engine) as session:
            user = await session.get(User, user_id)
        if user is None:
            raise UserNotFound
        return user

    async def find_by_name(self, username: str) -> User | None:
        """Return the user of this name, whatever the case of the letters."""
        query = select(User).where(func.lower(User.username) == username.lower())
        async with domain_errors(), AsyncSession(self._engine) as session:
            return await session.scalar(query)
