"""People and programs: passwords, locks, sessions, tokens."""

import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.tables import access_token, user_account, user_session
from eguard.server.principal import Role
from eguard.server.services import passwords
from eguard.server.services.access import Access
from eguard.server.services.audit import Audit
from eguard.server.services.believed import BELIEVED_SECONDS
from eguard.server.services.sessions import ABSOLUTE_SECONDS, IDLE_SECONDS

PASSWORD = "correct horse battery"
DAY = 86_400.0


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch):
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    monkeypatch.setattr(passwords, "_NOBODYS", hasher.hash("nobody"))


@pytest.fixture
def access(fleet_database, fleet_clock):
    return Access(fleet_database, fleet_clock)


@pytest.fixture
def audit(fleet_database, fleet_clock):
    return Audit(fleet_database, fleet_clock)


@pytest.fixture
def grace(access, ada):
    access.accounts.add(ada, "grace", Role.ANALYST, PASSWORD)
    return "grace"


def refusal(call, *args, **named):
    with pytest.raises(ServerRefusalError) as caught:
        call(*args, **named)
    return caught.value.status, caught.value.reason


def can_sign_in(access, password=PASSWORD):
    return access.accounts.authenticate("grace", password) is not None


def later(clock, seconds):
    clock.advance_to(clock.now() + seconds)


def test_a_password_is_kept_as_argon2id_with_its_costs(monkeypatch):
    monkeypatch.undo()
    kept = passwords.hash_password(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert passwords.is_password(PASSWORD, kept)
    assert not passwords.is_password(PASSWORD + " ", kept)
    assert not passwords.is_password("nobody", None)


@pytest.mark.parametrize("password", ["", "short", "a" * 12, "abababababab", "a" * 255 + "bc"])
def test_a_weak_password_is_refused(password):
    assert refusal(passwords.hash_password, password) == (422, "weak_password")


def test_a_hash_that_cannot_be_read_lets_nobody_in():
    assert not passwords.is_password(PASSWORD, "")
    assert not passwords.is_password(PASSWORD, "$argon2id$")


def test_somebody_signs_in_and_out(access, audit, grace):
    new = access.sign_in(grace, PASSWORD, "192.0.2.9")
    session = access.session_of(new.cookie)
    assert (session.principal.name, session.principal.role) == ("grace", Role.ANALYST)
    assert session.csrf_token == new.session.csrf_token != new.cookie
    assert access.principal_of_session(new.cookie).credential == "session"
    assert access.sign_out(new.session.principal, new.cookie)
    assert access.session_of(new.cookie) is None
    assert not access.sign_out(new.session.principal, new.cookie)
    actions = [record.action for record in audit.search().records]
    assert actions == ["session.end", "session.begin", "account.create"]
    assert audit.search(action="session.begin").records[0].address == "192.0.2.9"


def test_a_wrong_name_and_a_wrong_password_are_told_apart_by_nobody(access, grace):
    messages = set()
    for name, password in (("nobody", PASSWORD), ("grace", "wrong horse battery"), ("Grace", PASSWORD), ("", "")):
        with pytest.raises(ServerRefusalError) as caught:
            access.sign_in(name, password)
        messages.add((caught.value.status, caught.value.reason, caught.value.message))
    assert len(messages) == 1


def test_five_wrong_passwords_lock_for_five_minutes_and_each_further_one_doubles_it(access, audit, fleet_clock, grace):
    for _ in range(5):
        assert not can_sign_in(access, "wrong horse battery")
    assert not can_sign_in(access)
    later(fleet_clock, 299)
    assert not can_sign_in(access)
    later(fleet_clock, 2)
    assert not can_sign_in(access, "wrong horse battery")
    later(fleet_clock, 599)
    assert not can_sign_in(access)
    later(fleet_clock, 2)
    assert can_sign_in(access)
    locks = audit.search(action="account.lock").records
    assert [(record.detail["failures"], record.detail["seconds"]) for record in locks] == [(6, 600.0), (5, 300.0)]


def test_the_right_password_forgives_the_wrong_ones(access, grace):
    for _ in range(3):
        for _ in range(4):
            assert not can_sign_in(access, "wrong horse battery")
        assert can_sign_in(access)


def test_guesses_at_the_same_moment_are_all_counted(fleet_database, access, grace):
    outcomes = Counter()
    barrier = threading.Barrier(20)

    def guess():
        barrier.wait()
        outcomes[access.accounts.authenticate("grace", "wrong horse battery")] += 1

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with fleet_database.read() as connection:
        failures = connection.execute(sa.select(user_account.c.failures)).scalar_one()
    assert outcomes == {None: 20}
    assert failures == 5  # the others met the lock


def test_a_session_ends_half_an_hour_after_its_last_use(access, fleet_clock, grace):
    new = access.sign_in(grace, PASSWORD)
    for _ in range(4):
        later(fleet_clock, IDLE_SECONDS - 61)
        assert access.session_of(new.cookie) is not None
    later(fleet_clock, IDLE_SECONDS + 1)
    assert access.session_of(new.cookie) is None


def test_a_session_ends_after_twelve_hours_however_much_it_is_used(access, fleet_clock, grace):
    new = access.sign_in(grace, PASSWORD)
    for _ in range(int(ABSOLUTE_SECONDS / 600) - 1):
        later(fleet_clock, 600)
        assert access.session_of(new.cookie) is not None
    later(fleet_clock, 600)
    assert access.session_of(new.cookie) is None


def test_whatever_is_taken_from_an_account_ends_its_sessions(access, fleet_clock, ada, grace):
    cookies = [access.sign_in(grace, PASSWORD).cookie for _ in range(2)]
    assert all(access.session_of(cookie) for cookie in cookies)
    access.set_password(ada, grace, "a new horse battery")
    assert not any(access.session_of(cookie) for cookie in cookies)
    cookie = access.sign_in(grace, "a new horse battery").cookie
    access.disable_account(ada, grace)
    assert access.session_of(cookie) is None
    assert not can_sign_in(access, "a new horse battery")
    access.accounts.enable(ada, grace)
    assert can_sign_in(access, "a new horse battery")
    assert access.session_of(cookie) is None


def test_another_server_follows_within_five_seconds(fleet_database, fleet_clock, access, ada, grace):
    elsewhere = Access(fleet_database, fleet_clock)
    cookie = access.sign_in(grace, PASSWORD).cookie
    token = access.tokens.create(ada, "ci", Role.ADMIN)
    assert elsewhere.session_of(cookie) is not None
    assert elsewhere.principal_of_bearer(token.secret) is not None
    access.disable_account(ada, grace)
    access.tokens.revoke(ada, token.token_id)
    later(fleet_clock, BELIEVED_SECONDS)
    assert elsewhere.session_of(cookie) is None
    assert elsewhere.principal_of_bearer(token.secret) is None


def test_a_role_is_the_accounts_and_not_the_sessions(fleet_database, access, fleet_clock, grace):
    cookie = access.sign_in(grace, PASSWORD).cookie
    with fleet_database.write() as connection:
        connection.execute(sa.update(user_account).values(role="admin"))
    assert access.session_of(cookie).principal.role is Role.ADMIN


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43, "A" * 10_000, "é" * 43])
def test_a_made_up_cookie_is_nobodys(access, cookie):
    assert access.session_of(cookie) is None


def test_a_token_speaks_for_its_name_and_role(access, audit, ada):
    token = access.tokens.create(ada, "nightly", Role.ANALYST)
    principal = access.principal_of_bearer(token.secret)
    assert (principal.name, principal.role, principal.credential) == ("nightly", Role.ANALYST, token.token_id)
    record = audit.search().records[0]
    assert (record.action, record.object_id, record.principal) == ("access_token.create", token.token_id, "ada")


def test_a_token_ends_on_its_day_also_where_it_is_believed(access, fleet_clock, ada):
    token = access.tokens.create(ada, "ci", Role.ADMIN, days=1)
    later(fleet_clock, DAY - 1)
    assert access.principal_of_bearer(token.secret) is not None
    later(fleet_clock, 1)
    assert access.principal_of_bearer(token.secret) is None


def test_a_revoked_token_ends_at_once(access, ada):
    token = access.tokens.create(ada, "ci", Role.ADMIN)
    assert access.principal_of_bearer(token.secret) is not None
    access.tokens.revoke(ada, token.token_id)
    assert access.principal_of_bearer(token.secret) is None
    assert refusal(access.tokens.revoke, ada, token.token_id) == (404, "unknown_token")


def test_near_misses_of_a_secret_are_nobodys(access, ada):
    token = access.tokens.create(ada, "ci", Role.ADMIN)
    secret = token.secret
    swapped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in ("", token.token_id, secret[:-1], secret + "A", swapped, secret.replace("access", "enrol"), "\ud800"):
        assert access.principal_of_bearer(wrong) is None


@pytest.mark.parametrize("values", [{"role": Role.AGENT}, {"name": ""}, {"name": " x"}, {"name": "a\tb"}])
def test_accounts_and_tokens_have_printable_names_and_roles_of_people(access, ada, values):
    account = {"name": "x", "role": Role.ADMIN} | values
    assert refusal(access.tokens.create, ada, **account) == (422, "invalid_token_request")
    assert refusal(access.accounts.add, ada, **account, password=PASSWORD) == (422, "invalid_account")


def test_a_name_is_taken_once(access, ada, grace):
    assert refusal(access.accounts.add, ada, "grace", Role.ADMIN, PASSWORD) == (409, "account_exists")
    assert refusal(access.set_password, ada, "nobody", PASSWORD) == (404, "unknown_account")


def test_without_an_audit_log_nothing_changes(fleet_database, access, ada, grace):
    cookie = access.sign_in(grace, PASSWORD).cookie
    token = access.tokens.create(ada, "ci", Role.ADMIN)
    with fleet_database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    attempts = (
        lambda: access.accounts.add(ada, "eve", Role.ADMIN, PASSWORD),
        lambda: access.set_password(ada, grace, "a new horse battery"),
        lambda: access.disable_account(ada, grace),
        lambda: access.tokens.create(ada, "eve", Role.ADMIN),
        lambda: access.tokens.revoke(ada, token.token_id),
        lambda: access.sign_in(grace, PASSWORD),
    )
    try:
        for attempt in attempts:
            with pytest.raises(FleetStoreError):
                attempt()
    finally:
        with fleet_database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    with fleet_database.read() as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (user_account, user_session, access_token)
        ]
    assert counts == [1, 1, 1]
    assert access.session_of(cookie) is not None
    assert access.principal_of_bearer(token.secret) is not None
    assert can_sign_in(access)


def test_lists_hold_nothing_that_lets_somebody_in(access, ada, grace):
    token = access.tokens.create(ada, "ci", Role.ADMIN)
    new = access.sign_in(grace, PASSWORD)
    shown = f"{access.accounts.list()} {access.tokens.list()} {token!r} {new!r}"
    for secret in (token.secret, new.cookie, new.session.csrf_token, "argon2", PASSWORD):
        assert secret not in shown
