"""What leaves the machine: a table of command lines with their secrets, and of those that have none."""

import time

import pytest

from eguard.agent.control.redaction import MAX_TEXT_CHARACTERS, NOT_COLLECTED, REDACTED, AlertRedactor, redact

SECRET = "hunter2-S3cr3t"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
WITH_SECRETS = [
    f"app --password {SECRET}",
    f"app --password={SECRET} --verbose",
    f"app --password='{SECRET} with blanks' -v",
    f'app --db-password "{SECRET}" -v',
    f"app -password {SECRET}",
    f"app /password:{SECRET}",
    f"app --PASSWD={SECRET}",
    f"app --api-key {SECRET}",
    f"app --apikey={SECRET}",
    f"app --client_secret={SECRET}",
    f"app --access-token {SECRET}",
    f"app --github-token={SECRET}",
    f"app --passphrase {SECRET}",
    f"env DB_PASSWORD={SECRET} ./run",
    f"TOKEN={SECRET} ./run",
    f"export AWS_SECRET_ACCESS_KEY={SECRET}",
    f"set SESSION_KEY={SECRET}&& run",
    f'curl -d \'{{"password": "{SECRET}", "user": "x"}}\' https://h.example',
    f"curl -d 'user=x&password={SECRET}' https://h.example",
    f"curl https://h.example/?token={SECRET}&page=2",
    f"mysql -uroot -p{SECRET} -h db",
    f"mysqldump -p'{SECRET}' all",
    f"/usr/bin/mariadb-dump --user root -p{SECRET}",
    f"sshpass -p {SECRET} ssh root@h",
    f"sshpass -p{SECRET} ssh root@h",
    f"curl -u admin:{SECRET} https://h.example",
    f"curl --user admin:{SECRET} https://h.example",
    f"curl -H 'Authorization: Bearer {SECRET}' https://h.example",
    f"curl -H 'authorization: Basic {SECRET}' https://h.example",
    f"curl -H 'X-Api-Key: {SECRET}' https://h.example",
    f"curl -H 'Cookie: session={SECRET}; theme={SECRET}' https://h.example",
    f"wget https://admin:{SECRET}@h.example/file",
    f"psql postgresql://app:{SECRET}@db.example:5432/app",
    f"redis-cli -a {SECRET} ping",
    f"ldapsearch -x -w {SECRET} -b dc=example",
    f"xfreerdp /u:admin /p:{SECRET} /v:h",
    f"plink -pw {SECRET} root@h",
    f"net use \\\\h\\share /user:corp\\admin {SECRET}",
    f"openssl enc -aes-256-cbc -pass pass:{SECRET} -in x",
    f"app --connection-string=Server=h;AccountKey={SECRET}",
    f"powershell -Command $password = '{SECRET}'",
]
KEYS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_0123456789abcdefghijABCDEFGHIJ",
    "glpat-0123456789abcdefghij",
    "xoxb-0123456789-abcdefghij",
    "sk_live_0123456789abcdef",
    "AIzaSyA0123456789abcdefghijABCDEFGHIJ01",
    JWT,
]
WITHOUT = [
    "ssh -p 2222 root@h.example",
    "mkdir -p /var/lib/app",
    "cp -p a b",
    "docker run -p 8080:80 nginx",
    "mysql -u root -p -h db",
    "mysql --port=3306",
    "curl -u admin https://h.example",
    "passwd root",
    "cat /etc/passwd",
    "grep token file.txt",
    "python tokenizer.py --input a.txt",
    "curl https://h.example:8443/a/b?page=2",
    "git clone git@h.example:a/b.git",
    "git clone ssh://git@h.example/a.git",
    "nmap -p 1-1000 198.51.100.7",
    "/usr/sbin/cron -f",
    "bash -c 'echo hello | tr a b'",
    "ls -la --color=auto",
    "",
]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_the_secret_goes_and_the_program_stays(text):
    redacted = redact(text)
    assert SECRET not in redacted
    assert REDACTED in redacted
    first = text.split()[0]
    assert redacted.startswith(first.split("=")[0])


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_say_what_they_are_go_wherever_they_stand(key):
    assert redact(f"app {key} x") == f"app {REDACTED} x"
    assert key not in redact(f"https://h.example/{key}/x")


@pytest.mark.parametrize("text", WITHOUT)
def test_what_is_no_secret_stays_as_it_is(text):
    assert redact(text) == text


def test_a_private_key_goes_with_everything_in_it():
    pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
    assert redact(f"echo '{pem}' > key") == f"echo '{REDACTED}' > key"
    assert redact("echo -----BEGIN PRIVATE KEY----- MIIEow") == f"echo {REDACTED}"


def test_redaction_twice_is_redaction_once():
    for text in WITH_SECRETS:
        assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("piece", ["-", "password=", "a:", "'", "--password ", "eyJ", "x-key: ", "/user:a ", "://"])
def test_hostile_texts_take_no_time(piece, benchmark_seconds):
    assert benchmark_seconds(lambda: redact(piece * 20_000)) < 0.5
    assert len(redact(piece * 20_000)) <= MAX_TEXT_CHARACTERS + 10


@pytest.fixture
def benchmark_seconds():
    import time

    def measure(work):
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return measure


def alert(**given):
    fields = {
        "alert_id": "a1",
        "process_key": "vault:bash",
        "command_line": f"/usr/bin/vault login --password {SECRET}",
        "target": f"https://u:{SECRET}@h.example",
        "reasons": [f"suspicious string password={SECRET}"],
        "ancestors": ["bash", "sshd"],
        "rules": [
            {"rule_id": "r1", "matched_fields": [["CommandLine", f"x --token {SECRET}"], ["Image", "/usr/bin/vault"]]}
        ],
        "score": 0.5,
    }
    return fields | given


def test_every_text_of_an_alert_is_gone_through_and_the_rest_is_as_it_was():
    given = alert()
    sent = AlertRedactor().prepared(given)
    assert SECRET not in str(sent)
    assert SECRET in given["command_line"]  # the agent's own copy
    assert (sent["alert_id"], sent["score"], sent["ancestors"]) == ("a1", 0.5, ["bash", "sshd"])
    assert sent["rules"][0]["matched_fields"][1] == ["Image", "/usr/bin/vault"]


@pytest.mark.parametrize("pattern", ["vault", "VAULT", "va*", "/usr/bin/*", "*/vault", "bash", "v?ult"])
def test_command_lines_of_listed_programs_stay_here(pattern):
    sent = AlertRedactor([pattern]).prepared(alert())
    assert sent["command_line"] == NOT_COLLECTED
    assert sent["rules"][0]["matched_fields"] == [["CommandLine", NOT_COLLECTED], ["Image", "/usr/bin/vault"]]
    assert sent["process_key"] == "vault:bash"


@pytest.mark.parametrize("pattern", ["vaul", "/bin/vault", "*/bash/*", "ls"])
def test_others_are_sent(pattern):
    assert AlertRedactor([pattern]).prepared(alert())["command_line"].startswith("/usr/bin/vault login")


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        (r'"C:\Program Files\Payroll\run.exe" /x', "*/payroll/*"),
        (r'"C:\Program Files\Payroll\run.exe" /x', "run.exe"),
        (r'"C:\Program Files\Payroll\run.exe" /x', r"C:\Program Files\*"),
        ("./local/run --x", "run"),
    ],
)
def test_the_command_lines_own_first_word_counts(command, pattern):
    sent = AlertRedactor([pattern]).prepared(alert(process_key="a:b", command_line=command, rules=[]))
    assert sent["command_line"] == NOT_COLLECTED


def test_a_long_command_line_is_cut_to_what_a_strict_reader_takes():
    sent = AlertRedactor().prepared(alert(command_line="x" * 100_000))
    assert len(sent["command_line"]) < 8192


def test_a_servers_token_goes_and_its_identifier_stays():
    text = "curl --data eguard-enrol-0123456789abcdef-" + "q" * 43
    assert redact(text) == f"curl --data eguard-enrol-0123456789abcdef-{REDACTED}"


@pytest.mark.parametrize(
    "piece", [".", "token", "token.", "-token", "eyJaaaaaaaaa.", "a://", "-----BEGIN PRIVATE KEY-----."]
)
def test_no_command_line_holds_the_agent_up(piece):
    began = time.process_time()
    redact((piece * 20_000)[:20_000])
    assert time.process_time() - began < 1.0
