/* A model server with fixed answers, fast enough never to be what a benchmark measures.
 *
 *   fixed_backend PORT EVENTS INTERVAL_MS GROUPS
 *
 * A request whose body asks for a stream gets EVENTS server-sent events of about 200 bytes, one per INTERVAL_MS, then
 * a usage event if it asked for one, then [DONE]. Every other request gets a fixed chat completion. Streams are dealt
 * into GROUPS that are written together, out of phase: what a gateway sees of GROUPS replicas that step in turn.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { MAX_FD = 16384, IN_BYTES = 262144, READY = 512, MAX_GROUPS = 64 };

typedef struct {
    int group, streaming, left, wants_usage;
    size_t got, unsent;
    char *out; /* bytes the socket would not take yet */
    char in[IN_BYTES + 1];
} Connection;

static Connection *connections[MAX_FD];
static int streams[MAX_GROUPS][MAX_FD], stream_count[MAX_GROUPS];
static int events_per_stream, groups, next_group, poller;
static char event[512], usage_event[512], answer[1024];
static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                  "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
static const char STREAM_END[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static void chunk(char *target, size_t size, const char *data) { snprintf(target, size, "%zx\r\n%s\r\n", strlen(data), data); }

static void prepare_answers(void) {
    chunk(event, sizeof event,
          "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
          "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" weigh\"},\"logprobs\":null,"
          "\"finish_reason\":null}]}\n\n");
    chunk(usage_event, sizeof usage_event,
          "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
          "\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":100,\"total_tokens\":400}}\n\n");
    const char *body =
        "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
        "\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The scale "
        "shows twelve tonnes; the lorry may cross the bridge, one axle at a time.\",\"refusal\":null},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":20,\"total_tokens\":320}}";
    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
             strlen(body), body);
}

static void send_bytes(int fd, Connection *c, const char *data, size_t size) {
    if (c->unsent == 0) {
        ssize_t n = write(fd, data, size);
        if (n > 0) data += n, size -= (size_t)n;
        else if (n < 0 && errno != EAGAIN) return; /* the reader sees the reset */
    }
    if (size == 0) return;
    c->out = realloc(c->out, c->unsent + size);
    memcpy(c->out + c->unsent, data, size);
    c->unsent += size;
}

static void flush(int fd, Connection *c) {
    if (c->unsent == 0) return;
    ssize_t n = write(fd, c->out, c->unsent);
    if (n > 0) memmove(c->out, c->out + n, c->unsent -= (size_t)n);
}

static void step(int group) { /* every stream of the group gets its next event */
    for (int i = 0; i < stream_count[group];) {
        int fd = streams[group][i];
        Connection *c = connections[fd];
        flush(fd, c);
        if (c->left > 0) {
            send_bytes(fd, c, event, strlen(event));
            if (--c->left == 0) {
                if (c->wants_usage) send_bytes(fd, c, usage_event, strlen(usage_event));
                send_bytes(fd, c, STREAM_END, sizeof STREAM_END - 1);
            }
        }
        if (c->left == 0 && c->unsent == 0) {
            c->streaming = 0;
            streams[group][i] = streams[group][--stream_count[group]];
        } else i++;
    }
}

static void close_connection(int fd) {
    Connection *c = connections[fd];
    for (int i = 0; c->streaming && i < stream_count[c->group]; i++)
        if (streams[c->group][i] == fd) {
            streams[c->group][i] = streams[c->group][--stream_count[c->group]];
            break;
        }
    free(c->out);
    free(c);
    connections[fd] = NULL;
    close(fd);
}

/* Answers one complete request at the head of the buffer; 0 when more bytes are needed. */
static int answer_one(int fd, Connection *c) {
    char *head_end = memmem(c->in, c->got, "\r\n\r\n", 4);
    if (!head_end) return 0;
    *head_end = 0;
    char *length = strcasestr(c->in, "\ncontent-length:");
    *head_end = '\r';
    size_t need = (size_t)(head_end + 4 - c->in) + (length && length < head_end ? strtoul(length + 16, NULL, 10) : 0);
    if (c->got < need) return 0;
    char kept = c->in[need], *body = head_end + 4;
    c->in[need] = 0;
    int stream = strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true");
    c->wants_usage = strstr(body, "\"include_usage\":true") || strstr(body, "\"include_usage\": true");
    c->in[need] = kept;
    memmove(c->in, c->in + need, c->got -= need);
    if (!stream) {
        send_bytes(fd, c, answer, strlen(answer));
        return 1;
    }
    send_bytes(fd, c, STREAM_HEAD, sizeof STREAM_HEAD - 1);
    c->streaming = 1;
    c->left = events_per_stream;
    c->group = next_group++ % groups;
    streams[c->group][stream_count[c->group]++] = fd;
    return 1;
}

static void readable(int fd) {
    Connection *c = connections[fd];
    ssize_t n = read(fd, c->in + c->got, IN_BYTES - c->got);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        close_connection(fd);
        return;
    }
    c->got += (size_t)n;
    while (!c->streaming && answer_one(fd, c)) {}
}

static void accept_all(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MAX_FD || !(connections[fd] = malloc(sizeof(Connection)))) {
            close(fd);
            continue;
        }
        Connection *c = connections[fd];
        c->group = c->streaming = c->left = c->wants_usage = 0;
        c->got = c->unsent = 0;
        c->out = NULL;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event want = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: fixed_backend PORT EVENTS INTERVAL_MS GROUPS\n"), 2;
    events_per_stream = atoi(argv[2]);
    groups = atoi(argv[4]);
    if (events_per_stream < 1 || atoi(argv[3]) < 1 || groups < 1 || groups > MAX_GROUPS)
        return fprintf(stderr, "fixed_backend: EVENTS, INTERVAL_MS and GROUPS (at most %d) are positive\n", MAX_GROUPS), 2;
    signal(SIGPIPE, SIG_IGN);
    prepare_answers();
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return perror("fixed_backend"), 1;
    long tick_ns = atol(argv[3]) * 1000000L / groups;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), group = 0;
    struct timespec tick = {tick_ns / 1000000000L, tick_ns % 1000000000L};
    timerfd_settime(timer, 0, &(struct itimerspec){tick, tick}, NULL);
    poller = epoll_create1(0);
    for (int i = 0; i < 2; i++) {
        struct epoll_event want = {.events = EPOLLIN, .data.fd = i ? timer : listener};
        epoll_ctl(poller, EPOLL_CTL_ADD, want.data.fd, &want);
    }
    for (struct epoll_event ready[READY];;) {
        int count = epoll_wait(poller, ready, READY, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            unsigned long long ticks;
            if (fd == listener) accept_all(listener);
            else if (fd != timer) readable(fd);
            else if (read(timer, &ticks, sizeof ticks) == sizeof ticks)
                for (; ticks; ticks--) step(group++ % groups); /* a late tick is made up for, never dropped */
        }
    }
}
