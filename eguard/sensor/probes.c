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
#define TCP_IS_CLOSE 7
#define OPEN_FOR_WRITE 0x243    // O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
#define OPEN_OF_DIRECTORY 0x210000  // O_DIRECTORY, O_PATH
#define DNS_PORT_NETWORK_ORDER 0x3500

#define PARENT_MAIN 1
#define OWN_MAIN 2

enum kind { EXEC = 0, EXIT = 1, FILE_OPEN = 2, CONNECT = 3, DNS_SENDER = 4, CLOSED = 5, KINDS = 6 };

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

struct sender_t {
    struct header_t header;
    u16 family;
    u16 port;
    u8 destination[16];
    u32 padding;
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
BPF_TABLE("lru_hash", u32, struct parent_t, parents, 16384);
BPF_TABLE("lru_hash", u32, struct argv_t, arguments, 1024);
BPF_TABLE("lru_hash", u32, struct file_t, opening, 2048);
BPF_TABLE("lru_hash", u64, struct flow_t, flows, 16384);
BPF_PERCPU_ARRAY(exec_scratch, struct exec_t, 1);
BPF_PERCPU_ARRAY(argv_scratch, struct argv_t, 1);
BPF_PERCPU_ARRAY(file_scratch, struct file_t, 1);

static __always_inline void count_loss(u32 kind) {
    u64 *total = lost.lookup(&kind);
    if (total)
        *total += 1;
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
#pragma unroll
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

#ifdef HAS_OPEN
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

TRACEPOINT_PROBE(sock, inet_sock_set_state) {
    u64 socket = (u64)args->skaddr;
    if (args->protocol != TCP_PROTOCOL)
        return 0;
    if (args->newstate == TCP_IS_SYN_SENT) {
        // The only step that surely runs in the process that connects.
        struct flow_t flow = {};
        if (bpf_get_current_pid_tgid() >> 32 == SELF_PID)
            return 0;
        fill_header(&flow.header, CONNECT);
        flow.family = args->family;
        flow.destination_port = args->dport;
        bpf_probe_read_kernel(flow.source, 16, args->saddr_v6);
        bpf_probe_read_kernel(flow.destination, 16, args->daddr_v6);
        flows.update(&socket, &flow);
        if (records.ringbuf_output(&flow, sizeof(flow), 0))
            count_loss(CONNECT);
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
        if (records.ringbuf_output(&closed, sizeof(closed), 0))
            count_loss(CLOSED);
        flows.delete(&socket);
    }
    return 0;
}

static __always_inline void note_sender(const void *address) {
    struct sender_t sender = {};
    u8 raw[28] = {};
    if (!address || bpf_probe_read_user(raw, 16, address))
        return;
    u16 family = *(u16 *)raw;
    u16 port = *(u16 *)(raw + 2);
    if (port != DNS_PORT_NETWORK_ORDER || (family != 2 && family != 10))
        return;
    if (family == 10)
        bpf_probe_read_user(sender.destination, 16, address + 8);
    else
        __builtin_memcpy(sender.destination, raw + 4, 4);
    fill_header(&sender.header, DNS_SENDER);
    sender.family = family;
    sender.port = 53;
    if (records.ringbuf_output(&sender, sizeof(sender), 0))
        count_loss(DNS_SENDER);
}

TRACEPOINT_PROBE(syscalls, sys_enter_connect) {
    note_sender(args->uservaddr);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_sendto) {
    note_sender(args->addr);
    return 0;
}

// A message header begins with the pointer to the address; both layouts are part of the kernel's interface.
TRACEPOINT_PROBE(syscalls, sys_enter_sendmsg) {
    void *address = NULL;
    bpf_probe_read_user(&address, sizeof(address), args->msg);
    note_sender(address);
    return 0;
}

TRACEPOINT_PROBE(syscalls, sys_enter_sendmmsg) {
    void *address = NULL;
    bpf_probe_read_user(&address, sizeof(address), args->mmsg);
    note_sender(address);
    return 0;
}
