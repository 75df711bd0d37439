// The probes of the ebpf sensor, compiled at start by bcc.
//
// Tracepoints only, and no kernel structure is read through a header: the headers that a distribution ships may belong to
// another kernel than the one that runs. The three offsets that are needed inside tcp_sock come from this kernel's own
// BTF (TCP_BYTES_* below); without BTF the byte counts stay zero.
//
// SELF_PID is the process that reads these records. What it opens and connects is not reported: it would feed itself.

#define COMM_BYTES 16
#define PATH_BYTES 256
#define ARGV_BYTES 512
#define ARGV_COUNT 16
#define TCP_PROTOCOL 6
#define TCP_IS_ESTABLISHED 1
#define TCP_IS_SYN_SENT 2
#define TCP_IS_SYN_RECV 3
#define TCP_IS_CLOSE 7
#define TCP_IS_LISTEN 10
#define OPEN_FOR_WRITE 0x243    // O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
#define OPEN_OF_DIRECTORY 0x210000  // O_DIRECTORY, O_PATH
#define DNS_PORT 53
#define INET 2
#define INET6 10
#define SOCKET_TYPE_MASK 0xf
#define DATAGRAM_SOCKET 2
#define UDP_PROTOCOL 17
#define MODULE_BYTES 64
#define SECOND_NS 1000000000ULL
// Datagrams to one destination belong together until it was quiet for this long.
#define UDP_QUIET_NS (5 * SECOND_NS)
// Most of these within a second: of one process's UDP contacts, of one local port's accepted connections.
#define UDP_BUDGET 500
#define ACCEPT_BUDGET 1000

#define PARENT_MAIN 1
#define OWN_MAIN 2

enum kind {
    EXEC = 0,
    EXIT = 1,
    FILE_OPEN = 2,
    CONNECT = 3,
    DNS_SENDER = 4,
    CLOSED = 5,
    UDP_CONTACT = 6,
    LISTEN = 7,
    UNLISTEN = 8,
    ACCEPT = 9,
    MODULE = 10,
    KINDS = 11
};

struct header_t {
    u64 time_ns;
    u32 pid;
    u32 parent_pid;
    u32 uid;
    u16 kind;
    u16 main_threads;  // PARENT_MAIN, OWN_MAIN: whose names below are those of the process and not of a thread
    char comm[COMM_BYTES];
    char parent_comm[COMM_BYTES];
};

struct exec_t {
    struct header_t header;
    char path[PATH_BYTES];
    char argv[ARGV_BYTES];
};

struct file_t {
    struct header_t header;
    s32 folder;
    u32 flags;
    char path[PATH_BYTES];
};

struct flow_t {
    struct header_t header;
    u16 family;
    u16 source_port;
    u16 destination_port;
    u16 is_established;
    u8 source[16];
    u8 destination[16];
    u64 duration_ns;
    u64 sent_bytes;
    u64 received_bytes;
};

struct contact_t {
    struct header_t header;
    u16 family;
    u16 port;
    u8 destination[16];
    u32 padding;
};

struct module_t {
    struct header_t header;
    char name[MODULE_BYTES];
};

// What is known of a process's descriptor that is a socket of IPv4 or IPv6.
struct socket_t {
    u16 family;  // 0 until it is connected
    u16 port;
    u16 is_udp;
    u16 is_reported;
    u8 destination[16];
};

struct destination_t {
    u32 pid;
    u16 family;
    u16 port;
    u8 address[16];
};

struct budget_t {
    u64 second;
    u64 spent;
};

struct parent_t {
    u32 pid;
    u32 is_leader;
    char comm[COMM_BYTES];
};

struct argv_t {
    u32 length;
    // Room for one more argument than fits, so that the verifier can see that no write leaves it.
    char text[ARGV_BYTES + ARGV_BYTES];
};

BPF_RINGBUF_OUTPUT(records, RING_PAGES);
BPF_PERCPU_ARRAY(lost, u64, KINDS);
BPF_PERCPU_ARRAY(thinned, u64, KINDS);
BPF_TABLE("lru_hash", u32, struct parent_t, parents, 16384);
BPF_TABLE("lru_hash", u32, struct argv_t, arguments, 1024);
BPF_TABLE("lru_hash", u32, struct file_t, opening, 2048);
BPF_TABLE("lru_hash", u64, struct flow_t, flows, 16384);
BPF_TABLE("lru_hash", u32, u32, creating, 1024);
BPF_TABLE("lru_hash", u64, struct socket_t, sockets, 16384);
BPF_TABLE("lru_hash", struct destination_t, u64, contacted, 16384);
BPF_TABLE("lru_hash", u64, struct budget_t, budgets, 4096);
BPF_PERCPU_ARRAY(exec_scratch, struct exec_t, 1);
BPF_PERCPU_ARRAY(argv_scratch, struct argv_t, 1);
BPF_PERCPU_ARRAY(file_scratch, struct file_t, 1);

static __always_inline void count_loss(u32 kind) {
    u64 *total = lost.lookup(&kind);
    if (total)
        *total += 1;
}

// Whether another record of this kind and owner (a process, a port) may be written within this second; counts those that
// may not.
static __always_inline int within_budget(u32 kind, u32 owner, u64 most) {
    u64 key = ((u64)kind << 32) | owner;
    u64 second = bpf_ktime_get_ns() / SECOND_NS;
    struct budget_t first = {.second = second, .spent = 1};
    struct budget_t *budget = budgets.lookup(&key);
    if (!budget || budget->second != second) {
        budgets.update(&key, &first);
        return 1;
    }
    budget->spent += 1;
    if (budget->spent <= most)
        return 1;
    u64 *total = thinned.lookup(&kind);
    if (total)
        *total += 1;
    return 0;
}

static __always_inline void fill_header(struct header_t *header, u16 kind) {
    u64 ids = bpf_get_current_pid_tgid();
    u32 pid = ids >> 32;
    header->time_ns = bpf_ktime_get_ns();
    header->pid = pid;
    header->uid = bpf_get_current_uid_gid();
    header->kind = kind;
    bpf_get_current_comm(&header->comm, sizeof(header->comm));
    struct parent_t *parent = parents.lookup(&pid);
    header->parent_pid = 0;
    header->main_threads = pid == (u32)ids ? OWN_MAIN : 0;
    __builtin_memset(header->parent_comm, 0, COMM_BYTES);
    if (parent) {
        header->parent_pid = parent->pid;
        header->main_threads |= parent->is_leader ? PARENT_MAIN : 0;
        __builtin_memcpy(header->parent_comm, parent->comm, COMM_BYTES);
    }
}

TRACEPOINT_PROBE(sched, sched_process_fork) {
    u64 ids = bpf_get_current_pid_tgid();
    u32 child = args->child_pid;
    struct parent_t parent = {};
    parent.pid = ids >> 32;
    parent.is_leader = parent.pid == (u32)ids;
    bpf_get_current_comm(&parent.comm, sizeof(parent.comm));
    parents.update(&child, &parent);
    return 0;
}

static __always_inline void keep_arguments(const char *const *argv) {
    u32 zero = 0;
    u32 thread = bpf_get_current_pid_tgid();
    struct argv_t *kept = argv_scratch.lookup(&zero);
    if (!kept)
        return;
    kept->length = 0;
    // A loop that stays one costs a third of the compiler's time, and every kernel with ring buffers takes it.
#pragma clang loop unroll(disable)
    for (int index = 0; index < ARGV_COUNT; index++) {
        const char *argument = NULL;
        if (bpf_probe_read_user(&argument, sizeof(argument), &argv[index]) || !argument)
            break;
        u32 at = kept->length;
        if (at >= ARGV_BYTES)
            break;
        long copied = bpf_probe_read_user_str(&kept->text[at & (ARGV_BYTES - 1)], ARGV_BYTES, argument);
        if (copied <= 0)
            break;
        kept->length = at + copied;
    }
    arguments.update(&thread, kept);
}

TRACEPOINT_PROBE(syscalls, sys_enter_execve) {
    keep_arguments(args->argv);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_execveat) {
    keep_arguments(args->argv);
    return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exec) {
    u32 zero = 0;
    // A thread that executes takes over the process's number; it left its arguments under its own.
    u32 thread = args->old_pid;
    struct exec_t *record = exec_scratch.lookup(&zero);
    if (!record)
        return 0;
    fill_header(&record->header, EXEC);
    u32 offset = args->data_loc_filename & 0xFFFF;
    bpf_probe_read_kernel_str(record->path, PATH_BYTES, (void *)args + offset);
    u32 length = 0;
    struct argv_t *kept = arguments.lookup(&thread);
    if (kept) {
        length = kept->length;
        if (length > ARGV_BYTES - 1)
            length = ARGV_BYTES - 1;
        bpf_probe_read_kernel(record->argv, ARGV_BYTES, kept->text);
        arguments.delete(&thread);
    }
    u32 size = sizeof(struct header_t) + PATH_BYTES + (length & (ARGV_BYTES - 1));
    if (records.ringbuf_output(record, size, 0))
        count_loss(EXEC);
    return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exit) {
    u64 ids = bpf_get_current_pid_tgid();
    u32 thread = ids;
    if (thread == ids >> 32) {
        struct header_t record = {};
        fill_header(&record, EXIT);
        if (records.ringbuf_output(&record, sizeof(record), 0))
            count_loss(EXIT);
    }
    parents.delete(&thread);
    arguments.delete(&thread);
    opening.delete(&thread);
    return 0;
}

// Folders where programs lie, by their first four bytes: /bin, /sbin, /usr, /tmp, /opt, /dev (shm), /var (tmp).
// Whether a file there can be executed is looked up by the reader of the records.
static __always_inline int may_hold_programs(const char *path) {
    u32 start = *(u32 *)path;
    return start == 0x6e69622f || start == 0x6962732f || start == 0x706d742f || start == 0x74706f2f ||
           (start == 0x7273752f && (path[5] == 'b' || (path[5] == 's' && path[6] == 'b') || path[6] == 'o')) ||
           (start == 0x7665642f && path[5] == 's' && path[6] == 'h') ||
           (start == 0x7261762f && path[5] == 't');
}

static __always_inline void keep_opening(s64 folder, const char *path, u64 flags) {
    u32 zero = 0;
    u64 ids = bpf_get_current_pid_tgid();
    u32 thread = ids;
    if (ids >> 32 == SELF_PID || (!(flags & OPEN_FOR_WRITE) && (flags & OPEN_OF_DIRECTORY)))
        return;
    struct file_t *file = file_scratch.lookup(&zero);
    if (!file || bpf_probe_read_user_str(file->path, PATH_BYTES, path) < 0)
        return;
    if (!(flags & OPEN_FOR_WRITE) && !may_hold_programs(file->path))
        return;
    file->folder = folder;
    file->flags = flags;
    opening.update(&thread, file);
}

static __always_inline void finish_opening(s64 result) {
    u32 thread = bpf_get_current_pid_tgid();
    struct file_t *file = opening.lookup(&thread);
    if (!file)
        return;
    if (result >= 0) {
        fill_header(&file->header, FILE_OPEN);
        if (records.ringbuf_output(file, sizeof(*file), 0))
            count_loss(FILE_OPEN);
    }
    opening.delete(&thread);
}

TRACEPOINT_PROBE(syscalls, sys_enter_openat) {
    keep_opening(args->dfd, args->filename, args->flags);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat) {
    finish_opening(args->ret);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_openat2) {
    u64 flags = 0;
    bpf_probe_read_user(&flags, sizeof(flags), (void *)args->how);
    keep_opening(args->dfd, args->filename, flags);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat2) {
    finish_opening(args->ret);
    return 0;
}

#ifdef HAS_OLD_CALLS
TRACEPOINT_PROBE(syscalls, sys_enter_open) {
    keep_opening(-100, args->filename, args->flags);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_open) {
    finish_opening(args->ret);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_creat) {
    keep_opening(-100, args->pathname, OPEN_FOR_WRITE & ~2);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_creat) {
    finish_opening(args->ret);
    return 0;
}
#endif

static __always_inline void report_flow(struct flow_t *flow) {
    if (records.ringbuf_output(flow, sizeof(*flow), 0))
        count_loss(flow->header.kind);
}

TRACEPOINT_PROBE(sock, inet_sock_set_state) {
    u64 socket = (u64)args->skaddr;
    if (args->protocol != TCP_PROTOCOL)
        return 0;
    int listens = args->newstate == TCP_IS_LISTEN;
    // An inbound connection begins as a copy of the socket that listens, and leaves that state for another.
    int ends = args->oldstate == TCP_IS_LISTEN && args->newstate == TCP_IS_CLOSE;
    if (args->newstate == TCP_IS_SYN_SENT || listens || ends) {
        // These steps surely run in the process whose socket it is.
        struct flow_t flow = {};
        if (bpf_get_current_pid_tgid() >> 32 == SELF_PID)
            return 0;
        fill_header(&flow.header, listens ? LISTEN : ends ? UNLISTEN : CONNECT);
        flow.family = args->family;
        flow.source_port = args->sport;
        flow.destination_port = args->dport;
        bpf_probe_read_kernel(flow.source, 16, args->saddr_v6);
        bpf_probe_read_kernel(flow.destination, 16, args->daddr_v6);
        if (flow.header.kind == CONNECT)
            flows.update(&socket, &flow);
        report_flow(&flow);
        return 0;
    }
    if (args->oldstate == TCP_IS_SYN_RECV && args->newstate == TCP_IS_ESTABLISHED) {
        // This one runs in whatever process the packet interrupts; the reader knows who listens on the port.
        struct flow_t flow = {};
        if (!within_budget(ACCEPT, args->sport, ACCEPT_BUDGET))
            return 0;
        flow.header.time_ns = bpf_ktime_get_ns();
        flow.header.kind = ACCEPT;
        flow.is_established = 1;
        flow.family = args->family;
        flow.source_port = args->sport;
        flow.destination_port = args->dport;
        bpf_probe_read_kernel(flow.source, 16, args->saddr_v6);
        bpf_probe_read_kernel(flow.destination, 16, args->daddr_v6);
        report_flow(&flow);
        return 0;
    }
    struct flow_t *flow = flows.lookup(&socket);
    if (!flow)
        return 0;
    if (args->newstate == TCP_IS_ESTABLISHED) {
        flow->is_established = 1;
        flow->source_port = args->sport;
    } else if (args->newstate == TCP_IS_CLOSE) {
        struct flow_t closed = *flow;
        u64 now = bpf_ktime_get_ns();
        closed.duration_ns = now - closed.header.time_ns;
        closed.header.time_ns = now;
        closed.header.kind = CLOSED;
#ifdef TCP_BYTES_SENT
        u64 again = 0;
        bpf_probe_read_kernel(&closed.sent_bytes, 8, (void *)socket + TCP_BYTES_SENT);
        bpf_probe_read_kernel(&again, 8, (void *)socket + TCP_BYTES_RETRANS);
        bpf_probe_read_kernel(&closed.received_bytes, 8, (void *)socket + TCP_BYTES_RECEIVED);
        closed.sent_bytes -= again;
#endif
        report_flow(&closed);
        flows.delete(&socket);
    }
    return 0;
}

// UDP has no states to follow. What a descriptor is comes from socket(), whom it is connected to from connect(), and a
// contact is the first datagram: connect() alone sends nothing, and resolvers use it to choose among addresses.
TRACEPOINT_PROBE(syscalls, sys_enter_socket) {
    u32 thread = bpf_get_current_pid_tgid();
    u32 is_udp = (args->type & SOCKET_TYPE_MASK) == DATAGRAM_SOCKET &&
                 (args->protocol == 0 || args->protocol == UDP_PROTOCOL);
    if (args->family == INET || args->family == INET6)
        creating.update(&thread, &is_udp);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_exit_socket) {
    u64 ids = bpf_get_current_pid_tgid();
    u32 thread = ids;
    u32 *is_udp = creating.lookup(&thread);
    if (!is_udp)
        return 0;
    if (args->ret >= 0) {
        u64 key = (ids >> 32 << 32) | (u32)args->ret;
        struct socket_t created = {.is_udp = *is_udp};
        sockets.update(&key, &created);
    }
    creating.delete(&thread);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_close) {
    u64 key = (bpf_get_current_pid_tgid() >> 32 << 32) | (u32)args->fd;
    sockets.delete(&key);
    return 0;
}

static __always_inline struct socket_t *find_socket(u32 descriptor) {
    u64 key = (bpf_get_current_pid_tgid() >> 32 << 32) | descriptor;
    return sockets.lookup(&key);
}

// A shell connects one descriptor and writes to a copy of it: `echo x > /dev/udp/192.0.2.1/99`.
static __always_inline void copy_socket(u32 descriptor, u32 copy) {
    struct socket_t *socket = find_socket(descriptor);
    u64 key = (bpf_get_current_pid_tgid() >> 32 << 32) | copy;
    if (descriptor == copy)
        return;
    if (socket) {
        struct socket_t copied = *socket;
        sockets.update(&key, &copied);
    } else {
        sockets.delete(&key);
    }
}

TRACEPOINT_PROBE(syscalls, sys_enter_dup3) {
    copy_socket(args->oldfd, args->newfd);
    return 0;
}

#ifdef HAS_OLD_CALLS
TRACEPOINT_PROBE(syscalls, sys_enter_dup2) {
    copy_socket(args->oldfd, args->newfd);
    return 0;
}
#endif

// Reads a socket address of the process; returns whether it is one of IPv4 or IPv6.
static __always_inline int read_address(struct contact_t *contact, const void *address) {
    u8 raw[16] = {};
    if (bpf_probe_read_user(raw, 16, address))
        return 0;
    contact->family = *(u16 *)raw;
    contact->port = ((u16)raw[2] << 8) | raw[3];
    if (contact->family == INET)
        __builtin_memcpy(contact->destination, raw + 4, 4);
    else if (contact->family != INET6 || bpf_probe_read_user(contact->destination, 16, address + 8))
        return 0;
    return 1;
}

static __always_inline void report_contact(struct contact_t *contact, u32 kind) {
    fill_header(&contact->header, kind);
    if (records.ringbuf_output(contact, sizeof(*contact), 0))
        count_loss(kind);
}

static __always_inline void note_datagram(u32 descriptor, const void *address) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct socket_t *socket = find_socket(descriptor);
    struct contact_t contact = {};
    int is_new = 0;
    if (address) {
        if ((socket && !socket->is_udp) || !read_address(&contact, address))
            return;
    } else {
        if (!socket || !socket->is_udp || !socket->family)
            return;
        contact.family = socket->family;
        contact.port = socket->port;
        __builtin_memcpy(contact.destination, socket->destination, 16);
        is_new = !socket->is_reported;
        socket->is_reported = 1;
    }
    // One such record names the sender of every query within the next seconds.
    if (contact.port == DNS_PORT && within_budget(DNS_SENDER, pid, UDP_BUDGET))
        report_contact(&contact, DNS_SENDER);
    if (pid == SELF_PID)
        return;
    struct destination_t key = {.pid = pid, .family = contact.family, .port = contact.port};
    __builtin_memcpy(key.address, contact.destination, 16);
    u64 now = bpf_ktime_get_ns();
    u64 *last = contacted.lookup(&key);
    int is_quiet = !last || now - *last >= UDP_QUIET_NS;
    contacted.update(&key, &now);
    if ((is_new || is_quiet) && within_budget(UDP_CONTACT, pid, UDP_BUDGET))
        report_contact(&contact, UDP_CONTACT);
}

TRACEPOINT_PROBE(syscalls, sys_enter_connect) {
    struct contact_t contact = {};
    struct socket_t *socket = find_socket(args->fd);
    if (!read_address(&contact, args->uservaddr))
        return 0;
    if (contact.port == DNS_PORT && within_budget(DNS_SENDER, bpf_get_current_pid_tgid() >> 32, UDP_BUDGET))
        report_contact(&contact, DNS_SENDER);
    if (socket && socket->is_udp) {
        socket->family = contact.family;
        socket->port = contact.port;
        socket->is_reported = 0;
        __builtin_memcpy(socket->destination, contact.destination, 16);
    }
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_sendto) {
    note_datagram(args->fd, args->addr);
    return 0;
}

// A message header begins with the pointer to the address; both layouts are part of the kernel's interface.
TRACEPOINT_PROBE(syscalls, sys_enter_sendmsg) {
    void *address = NULL;
    bpf_probe_read_user(&address, sizeof(address), args->msg);
    note_datagram(args->fd, address);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_sendmmsg) {
    void *address = NULL;
    bpf_probe_read_user(&address, sizeof(address), args->mmsg);
    note_datagram(args->fd, address);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_write) {
    note_datagram(args->fd, NULL);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_writev) {
    note_datagram(args->fd, NULL);
    return 0;
}

#ifdef HAS_MODULES
TRACEPOINT_PROBE(module, module_load) {
    struct module_t record = {};
    fill_header(&record.header, MODULE);
    u32 offset = args->data_loc_name & 0xFFFF;
    bpf_probe_read_kernel_str(record.name, MODULE_BYTES, (void *)args + offset);
    if (records.ringbuf_output(&record, sizeof(record), 0))
        count_loss(MODULE);
    return 0;
}
#endif
