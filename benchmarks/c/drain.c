/* Connects many times, asks for an event stream on each connection at once, reads them to their end, and says how many events arrived.
 *
 *   drain PORT STREAMS KEY BODY_FILE
 *
 * Prints one JSON object: complete streams, events (those with a "delta"), refused (status not 200), broken (closed or silent
 * for 10 s before their end), wall_s from the first request to the last byte, cpu_s of this program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 8192, READ_BYTES = 65536, READY = 512, SILENT_MS = 10000 };
enum Place { HEAD, SIZE_LINE, CHUNK, CHUNK_END, ENDED, UNTIL_CLOSE };

typedef struct {
    int fd;
    enum Place place;
    size_t head_size, chunk_left;
    int matched, size_over;
    char head[HEAD_BYTES + 1];
} Stream;

static const char MARK[] = "\"delta\"";
static long events, complete, refused, broken;

static void count(Stream *s, const char *data, size_t size) { /* events may be cut anywhere by a proxy */
    for (size_t i = 0; i < size; i++) {
        s->matched = data[i] == MARK[s->matched] ? s->matched + 1 : data[i] == MARK[0];
        if (s->matched == (int)sizeof MARK - 1) events++, s->matched = 1; /* the closing quote may open the next */
    }
}

/* Takes bytes of the response head; returns how many were used. */
static size_t take_head(Stream *s, const char *data, size_t size) {
    size_t room = HEAD_BYTES - s->head_size, take = size < room ? size : room;
    memcpy(s->head + s->head_size, data, take);
    s->head[s->head_size + take] = 0;
    char *end = strstr(s->head, "\r\n\r\n");
    if (!end) {
        s->head_size += take;
        if (s->head_size == HEAD_BYTES) s->place = ENDED, refused++;
        return take;
    }
    size_t used = (size_t)(end + 4 - s->head) - s->head_size;
    end[2] = 0;
    if (strncmp(s->head, "HTTP/1.1 200", 12)) s->place = ENDED, refused++;
    else s->place = strcasestr(s->head, "\r\ntransfer-encoding: chunked\r\n") ? SIZE_LINE : UNTIL_CLOSE;
    return used;
}

static void take(Stream *s, const char *data, size_t size) {
    while (size > 0 && s->place != ENDED) {
        size_t used = 1;
        if (s->place == HEAD) used = take_head(s, data, size);
        else if (s->place == UNTIL_CLOSE) count(s, data, used = size);
        else if (s->place == CHUNK) {
            used = size < s->chunk_left ? size : s->chunk_left;
            count(s, data, used);
            if ((s->chunk_left -= used) == 0) s->place = CHUNK_END;
        } else if (s->place == CHUNK_END) {
            if (*data == '\n') s->place = SIZE_LINE;
        } else if (*data == '\n') { /* end of a size line */
            s->place = s->chunk_left ? CHUNK : ENDED;
            if (!s->chunk_left) complete++;
            s->size_over = 0;
        } else if (*data == ';' || *data == '\r') s->size_over = 1;
        else if (!s->size_over) {
            int digit = *data <= '9' ? *data - '0' : (*data | 32) - 'a' + 10;
            s->chunk_left = s->chunk_left * 16 + (size_t)digit;
        }
        data += used, size -= used;
    }
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char *request_text(const char *key, const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *body = malloc(1 << 20), *text = malloc((1 << 20) + 1024);
    size_t n = fread(body, 1, 1 << 20, file);
    fclose(file);
    while (n && (body[n - 1] == '\n' || body[n - 1] == '\r')) n--;
    *size = (size_t)sprintf(text, "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %.200s\r\n"
                                  "content-type: application/json\r\ncontent-length: %zu\r\n\r\n", key, n);
    memcpy(text + *size, body, n);
    *size += n;
    free(body);
    return text;
}

static int connect_to(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return close(fd), -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int send_request(int fd, const char *text, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t n = write(fd, text + sent, size - sent);
        if (n <= 0) return -1;
        sent += (size_t)n;
    }
    return fcntl(fd, F_SETFL, O_NONBLOCK);
}

int main(int argc, char **argv) {
    size_t size = 0;
    if (argc != 5) return fprintf(stderr, "usage: drain PORT STREAMS KEY BODY_FILE\n"), 2;
    char *text = request_text(argv[3], argv[4], &size);
    if (!text) return perror(argv[4]), 1;
    int wanted = atoi(argv[2]), open = 0, poller = epoll_create1(0);
    Stream *all = calloc((size_t)wanted, sizeof(Stream));
    /* A short accept queue costs a second per dropped SYN: that is over before the clock starts. */
    for (int i = 0; i < wanted; i++) all[i].fd = connect_to(atoi(argv[1]));
    double began_s = now_s(), last_s = began_s;
    for (int i = 0; i < wanted; i++) {
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (all[i].fd < 0 || send_request(all[i].fd, text, size)) broken++;
        else epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &want), open++;
    }
    static char buffer[READ_BYTES];
    struct epoll_event ready[READY];
    while (open > 0) {
        int n_ready = epoll_wait(poller, ready, READY, SILENT_MS);
        if (n_ready == 0) break;
        for (int i = 0; i < n_ready; i++) {
            Stream *s = ready[i].data.ptr;
            ssize_t n = read(s->fd, buffer, sizeof buffer);
            if (n < 0 && errno == EAGAIN) continue;
            if (n > 0) take(s, buffer, (size_t)n);
            else if (n == 0 && s->place == UNTIL_CLOSE) complete++, s->place = ENDED;
            else broken++, s->place = ENDED;
            if (s->place == ENDED) close(s->fd), open--;
        }
        last_s = now_s();
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"complete\":%ld,\"events\":%ld,\"refused\":%ld,\"broken\":%ld,\"wall_s\":%.6f,\"cpu_s\":%.6f}\n", complete, events,
           refused, broken + open, last_s - began_s,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
