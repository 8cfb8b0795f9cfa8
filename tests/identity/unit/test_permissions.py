from ticketing.identity.permissions import RULES, Action, Role, Scope

RANKS = [Role.ANYBODY, Role.STAFF, Role.MANAGER, Role.OWNER, Role.ADMIN]
"""Each role may do what the one before it may."""


def test_every_action_has_its_rule() -> None:
    assert list(RULES) == list(Action)


def test_a_higher_role_may_do_no_less() -> None:
    for action, rule in RULES.items():
        allowed = [rank in rule.roles for rank in RANKS]
        assert allowed == sorted(allowed), action
        assert Role.ADMIN in rule.roles, action
        if Role.NOBODY in rule.roles:
            assert rule.roles == set(Role), action


def test_public_actions_need_no_scope_and_every_scope_opens_something() -> None:
    assert not any(rule.scopes for rule in RULES.values() if Role.NOBODY in rule.roles)
    others = {action: rule for action, rule in RULES.items() if action is not Action.GET_ME}
    assert {scope for rule in others.values() for scope in rule.scopes} == set(Scope)
