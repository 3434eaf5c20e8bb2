/* SPDX-License-Identifier: BSD-2-Clause */
/* A C program's view of a port's memory: netmap's structures declared afresh from the description of API 14, and
 * walked from the netmap_if. Returns 0, or the line of the first thing that was not as described. */
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>

struct netmap_slot {
    uint32_t buf_idx;
    uint16_t len;
    uint16_t flags;
    uint64_t ptr;
};

struct netmap_ring {
    const int64_t buf_ofs;
    const uint32_t num_slots;
    const uint32_t nr_buf_size;
    const uint16_t ringid;
    const uint16_t dir;
    uint32_t head;
    uint32_t cur;
    uint32_t tail;
    uint32_t flags;
    struct timeval ts;
    uint64_t offset_mask;
    uint64_t buf_align;
    uint8_t sem[128] __attribute__((__aligned__(128)));
    struct netmap_slot slot[];
};

struct netmap_if {
    char ni_name[16];
    const uint32_t ni_version;
    const uint32_t ni_flags;
    const uint32_t ni_tx_rings;
    const uint32_t ni_rx_rings;
    uint32_t ni_bufs_head;
    const uint32_t ni_host_tx_rings;
    const uint32_t ni_host_rx_rings;
    uint32_t ni_spare1[3];
    const ssize_t ring_ofs[];
};

#define WANT(condition) \
    do { \
        if (!(condition)) return __LINE__; \
    } while (0)

static long walk_ring(const struct netmap_ring* r, unsigned id, unsigned dir, unsigned slots, unsigned buf_size,
                      const char* region, unsigned long size) {
    const char* bufs = (const char*)r + r->buf_ofs;
    WANT((const char*)r > region && (const char*)&r->slot[slots] < region + size);
    WANT(((uintptr_t)r & 127) == 0);
    WANT(r->num_slots == slots && r->nr_buf_size == buf_size && r->ringid == id && r->dir == dir);
    WANT(r->head == r->cur && r->head < slots && r->tail < slots);
    WANT((const char*)&r->slot[0] - (const char*)r == 256);
    for (unsigned i = 0; i < slots; i++) {
        const char* buf = bufs + (size_t)r->slot[i].buf_idx * r->nr_buf_size;
        WANT(r->slot[i].buf_idx >= 2);
        WANT(buf > region && buf + buf_size <= region + size);
    }
    return 0;
}

long netmap_walk(const void* interface, unsigned tx_rings, unsigned rx_rings, unsigned slots, unsigned buf_size,
                 const void* region, unsigned long size) {
    const struct netmap_if* nifp = interface;
    WANT(sizeof(struct netmap_if) == 56 && sizeof(struct netmap_ring) == 256 && sizeof(struct netmap_slot) == 16);
    WANT(nifp->ni_version == 14 && strlen(nifp->ni_name) > 0);
    WANT(nifp->ni_tx_rings == tx_rings && nifp->ni_rx_rings == rx_rings);
    WANT(nifp->ni_host_tx_rings == 0 && nifp->ni_host_rx_rings == 0);
    for (unsigned i = 0; i < tx_rings + rx_rings; i++) {
        const struct netmap_ring* r = (const struct netmap_ring*)((const char*)nifp + nifp->ring_ofs[i]);
        const unsigned rx = i >= tx_rings;
        long line = walk_ring(r, rx ? i - tx_rings : i, rx, slots, buf_size, region, size);
        if (line != 0) return line;
        if (!rx && nifp->ring_ofs[i] <= 0) return __LINE__;
    }
    return 0;
}
