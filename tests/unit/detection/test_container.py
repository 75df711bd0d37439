from eguard.detection.container import container_risk


def test_outside_of_containers_there_is_no_risk():
    assert container_risk("bash", ("sshd", "systemd"), "ls") == 0.0


def test_inside_a_container_half():
    assert container_risk("nginx", ("sh", "containerd-shim", "systemd"), "nginx -g") == 0.5


def test_entering_other_namespaces_from_inside_is_an_escape():
    assert container_risk("nsenter", ("sh", "containerd-shim"), "nsenter -t 1") == 1.0
    assert container_risk("nsenter", ("bash",), "nsenter -t 1") == 0.0


def test_privileges_and_the_hosts_sockets_are_escapes_wherever_they_are_asked_for():
    assert container_risk("docker", ("bash",), "docker run --privileged x") == 1.0
    assert container_risk("curl", ("runc", "conmon"), "curl --unix-socket /var/run/docker.sock") == 1.0
