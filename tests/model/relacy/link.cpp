// SPDX-License-Identifier: BSD-2-Clause
// link [INTERLEAVINGS]: a pipe as it is compiled: ring_link, sleep_word, link_rx and pipe_tx, and what two processes use in their
// place (wire_rx, checked_peer), between two ends that send to each other, swap buffers and sleep whenever there is nothing to do;
// with membarrier for the sleeper, and with a fence for both. Then every order that those headers write at an atomic is weakened, one
// at a time.
//
// The headers are not templates over their atomics, and need not be: they are read here with another word for std::atomic.

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "nm/base/os.hpp"
#include "nm/concepts.hpp"
#include "nm/port_memory.hpp"
#include "nm/ring.hpp"
//
#include "checker.hpp"

namespace checker {

/// A place in the headers that says a memory order: what a function of that name does, to a word of that size.
struct site {
    const char* function = "";
    const char* what = "";
    unsigned bytes = 0;
    [[nodiscard]] bool is(const char* f, const char* w, unsigned n) const { return bytes == n && std::strcmp(what, w) == 0 && std::strcmp(function, f) == 0; }
    [[nodiscard]] std::string text() const { return std::string(function) + ": " + what + (bytes != 0 ? " of " + std::to_string(bytes) + " bytes" : ""); }
};
// Those that a run passed. Nothing may be allocated in a run: Relacy would take it for the test's.
std::array<site, 64> sites;
std::size_t num_sites = 0;
const site* weak = nullptr;  // this one is weakened

// As strong as the code says, unless it is its turn.
[[nodiscard]] rl::memory_order strength(std::memory_order order, const char* function, const char* what, unsigned bytes) {
    constexpr std::array orders{rl::mo_relaxed, rl::mo_consume, rl::mo_acquire, rl::mo_release, rl::mo_acq_rel, rl::mo_seq_cst};
    if (order == std::memory_order_relaxed) return rl::mo_relaxed;
    if (weak != nullptr) return weak->is(function, what, bytes) ? rl::mo_relaxed : orders[static_cast<std::size_t>(order)];
    bool known = false;
    for (std::size_t i = 0; i < num_sites; ++i) known |= sites[i].is(function, what, bytes);
    if (!known && num_sites < sites.size()) sites[num_sites++] = {function, what, bytes};
    return orders[static_cast<std::size_t>(order)];
}

inline sleeping_place* places = nullptr;

}  // namespace checker

namespace std {

// Stands in for std::atomic in what follows.
template <class T>
class checked_atomic {
public:
    static constexpr bool is_always_lock_free = true;
    constexpr checked_atomic() noexcept {}  // a member of what no test makes
    checked_atomic(T v) noexcept : made_(true) { new (&a_) rl::atomic<T>(v); }
    ~checked_atomic() {
        if (made_) a_.~atomic();
    }
    checked_atomic(const checked_atomic&) = delete;
    checked_atomic& operator=(const checked_atomic&) = delete;

    T load(memory_order o = memory_order_seq_cst, const char* f = __builtin_FUNCTION()) const noexcept {
        return a_.load(checker::strength(o, f, "load", sizeof(T)), RL_INFO);
    }
    void store(T v, memory_order o = memory_order_seq_cst, const char* f = __builtin_FUNCTION()) noexcept {
        a_.store(v, checker::strength(o, f, "store", sizeof(T)), RL_INFO);
    }
    bool compare_exchange_strong(T& expected, T v, memory_order o = memory_order_seq_cst, const char* f = __builtin_FUNCTION()) noexcept {
        return a_(RL_INFO).compare_exchange_strong(expected, v, checker::strength(o, f, "compare-and-swap", sizeof(T)));
    }

private:
    union {
        char none_ = 0;
        rl::atomic<T> a_;
    };
    bool made_ = false;
};

inline void checked_thread_fence(memory_order o, const char* f = __builtin_FUNCTION()) noexcept {
    if (checker::strength(o, f, "fence", 0) == rl::mo_seq_cst) rl::atomic_thread_fence(rl::mo_seq_cst, RL_INFO);
    else rl::atomic_thread_fence(rl::mo_acq_rel, RL_INFO);
}

}  // namespace std

namespace nm::base {

inline void checked_signal(int fd) noexcept { checker::places[fd].signal(); }
inline bool checked_clear(int fd) noexcept { return checker::places[fd].clear(), true; }
// Every thread passes a full barrier.
inline bool checked_membarrier(const char* f = __builtin_FUNCTION()) noexcept {
    if (checker::strength(std::memory_order_seq_cst, f, "membarrier", 0) == rl::mo_seq_cst) rl::systemwide_fence(RL_INFO);
    else rl::atomic_thread_fence(rl::mo_seq_cst, RL_INFO);
    return true;
}

}  // namespace nm::base

#define atomic checked_atomic
#define atomic_thread_fence checked_thread_fence
#define membarrier_heavy checked_membarrier
#define eventfd_signal checked_signal
#define eventfd_clear checked_clear
#include "nm/link.hpp"
#include "nm/ports/pipe_backend.hpp"
#include "nm/ports/pipe_wire.hpp"
#undef atomic
#undef atomic_thread_fence
#undef membarrier_heavy
#undef eventfd_signal
#undef eventfd_clear

namespace {

using nm::index_t;

constexpr index_t num_slots = 3;
constexpr std::uint32_t num_bufs = 2 + 2 * num_slots + 2;  // two are reserved; each ring's, and one to swap with for each end
constexpr unsigned frames = 5;

/// What goes wrong when left out, as the ports do it.
struct {
    bool second_look = true, tells_of_swaps = true;
} steps;

/// One end: what basic_pipe_end and the rings' syncs do with the two backends.
template <class Tx, class Rx>
struct end {
    Tx tx;
    Rx rx;
    std::array<nm::slot, num_slots> tx_slots, rx_slots;
    index_t tx_head = 0, rx_head = 0;
    std::uint32_t spare = 0;
    unsigned sent = 0, got = 0;
    bool asymmetric = false;
    int fd = 0;

    template <class Buffers>
    bool send(Buffers& buffers) {
        index_t tail = tx.reclaim(tx_head, nm::sync_flags::none);
        const index_t before = tx_head;
        while (sent < frames && tx_head != tail && (tx_head == before || rl::rand(2) == 0)) {
            const nm::slot s = nm::load_slot(tx_slots[tx_head]);
            buffers[s.buf_idx](RL_INFO) = ++sent;
            tx.put(tx_head, nm::words({s.buf_idx, 60, 0, 0}));
            tx_head = nm::ring_next(tx_head, num_slots);
        }
        tx.publish(tx_head);
        return tx_head != before;
    }
    template <class Buffers>
    bool receive(Buffers& buffers) {
        const index_t before = rx_head;
        for (index_t n = rx.available(rx_head); n != 0 && (rx_head == before || rl::rand(2) == 0); --n) {
            nm::slot s = nm::load_slot(rx_slots[rx_head]);
            rx.get(rx_head, s);
            RL_ASSERT(s.buf_idx >= 2 && s.buf_idx < num_bufs && s.len == 60);
            RL_ASSERT(buffers[s.buf_idx](RL_INFO) == ++got);
            if (rl::rand(2) == 0) {
                std::swap(s.buf_idx, spare);
                rx.swapped = steps.tells_of_swaps;
            }
            nm::store_slot(rx_slots[rx_head], s);
            rx.give(rx_head, s);
            rx_head = nm::ring_next(rx_head, num_slots);
        }
        rx.publish(rx_head);
        buffers[spare](RL_INFO) = 0xdead;  // it is this end's
        return rx_head != before;
    }
    // basic_pipe_end::arm, then poll.
    void sleep() {
        const bool for_tx = sent < frames, for_rx = got < frames;
        if (for_rx) rx.armed = true, rx.link->rx_sleeps.arm();
        if (for_tx) tx.armed = true, tx.link->tx_sleeps.arm();
        nm::sleep_barrier(asymmetric);
        if (for_rx && steps.second_look && rx.ready(rx_head)) rx.link->rx_sleeps.found(), checker::places[fd].signal();
        if (for_tx && steps.second_look && tx.freed()) tx.link->tx_sleeps.found(), checker::places[fd].signal();
        checker::places[fd].sleep();
    }
};

enum class between { threads, threads_with_membarrier, processes };

template <between B>
struct world {
    static constexpr bool processes = B == between::processes;
    using tx_type = nm::pipe_tx<nm::eventfd_notifier, std::conditional_t<processes, nm::checked_peer, nm::trusted_peer>>;
    using rx_type = std::conditional_t<processes, nm::wire_rx<>, nm::link_rx<>>;

    std::array<nm::ring_link, 2> links;
    std::array<end<tx_type, rx_type>, 2> ends;
    std::array<std::array<nm::slot, num_slots>, 2> wires;  // by who sends
    std::array<std::array<std::uint32_t, num_slots>, 2> given;
    std::array<rl::var<unsigned>, num_bufs> buffers;
    std::array<checker::sleeping_place, 2> places;

    world() {
        constexpr bool asymmetric = B == between::threads_with_membarrier;
        std::uint32_t buf = 2;
        for (std::size_t e = 0; e < 2; ++e) {
            auto& here = ends[e];
            auto& there = ends[1 - e];
            for (index_t i = 0; i < num_slots; ++i) {
                given[e][i] = buf;
                here.tx_slots[i] = there.rx_slots[i] = wires[e][i] = {buf++, 0, 0, 0};
            }
            const int mine = static_cast<int>(e), others = 1 - mine;
            here.tx.mine = here.tx_slots.data();
            here.tx.peers = processes ? wires[e].data() : there.rx_slots.data();
            here.tx.link = &links[e];
            here.rx.link = &links[1 - e];
            here.tx.num_slots = here.rx.num_slots = num_slots;
            here.tx.num_bufs = num_bufs;
            here.tx.peer = here.rx.peer = {others};
            here.tx.my_fd = here.rx.my_fd = here.fd = mine;
            here.tx.beside = &links[1 - e].rx_sleeps;
            here.rx.beside = &links[e].tx_sleeps;
            here.tx.asymmetric = here.rx.asymmetric = here.asymmetric = asymmetric;
            if constexpr (processes) {
                here.rx.wire = wires[1 - e].data();
                here.rx.doubt.given = given[1 - e].data();
                here.tx.doubt.given = given[e].data();
            }
        }
        for (auto& here : ends) here.spare = buf++;
    }
};

template <between B>
struct piped : rl::test_suite<piped<B>, 2> {
    std::unique_ptr<world<B>> w = std::make_unique<world<B>>();  // Relacy aligns a test to 16 bytes
    void before() {
        for (auto& p : w->places) p.open(true);
        checker::places = w->places.data();
    }
    void after() {
        for (auto& p : w->places) p.close();
        if constexpr (world<B>::processes)  // nobody lied
            for (auto& e : w->ends) RL_ASSERT(e.tx.take_violations() == 0 && e.rx.take_violations() == 0);
    }
    void thread(unsigned number) {
        auto& e = w->ends[number];
        while (e.sent < frames || e.got < frames) {
            const bool sent = e.send(w->buffers), received = e.receive(w->buffers);
            if (!sent && !received && (e.sent < frames || e.got < frames)) e.sleep();
        }
    }
};
using threads = piped<between::threads>;
using threads_with_membarrier = piped<between::threads_with_membarrier>;
using processes = piped<between::processes>;

// What need not be as strong as it is written; it is in cold code, and costs nothing.
[[nodiscard]] const char* superfluous(const checker::site& s) {
    if (s.is(s.function, "compare-and-swap", 4)) return "an eventfd passes on what was written before its signal";
    if (s.is("pending", "load", 4)) return "who took a signal sees what was written before it";
    if (s.is("freed", "load", 8)) return "reclaim looks again";
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    checker::verdicts all(argc, argv, 30'000);
    all.is_well<threads>("threads, a fence for both");
    all.is_well<threads_with_membarrier>("threads, membarrier for the sleeper");
    all.is_well<processes>("processes");
    for (std::size_t i = 0; i < checker::num_sites; ++i) {
        checker::weak = &checker::sites[i];
        all.one_goes_wrong<threads, threads_with_membarrier>("threads, " + checker::weak->text(), superfluous(*checker::weak));
        if (!checker::weak->is("sleep_barrier", "membarrier", 0)) all.one_goes_wrong<processes>("processes, " + checker::weak->text(), superfluous(*checker::weak));
    }
    checker::weak = nullptr;
    steps.second_look = false;
    all.goes_wrong<threads>("threads, a fence for both, no second look");
    all.goes_wrong<threads_with_membarrier>("threads, membarrier, no second look");
    all.goes_wrong<processes>("processes, no second look");
    steps = {};
    steps.tells_of_swaps = false;
    all.goes_wrong<threads>("threads, buffers swapped in secret");
    return all.exit_status();
}
