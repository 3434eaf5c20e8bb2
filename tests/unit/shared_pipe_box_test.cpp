// SPDX-License-Identifier: BSD-2-Clause
// What is handed over of a pipe between processes, by somebody who may hand over anything; and both sides of a wire in two threads, on
// one mapping, so that a sanitizer sees that they share it.
#include <atomic>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>

#include "nm/ports/shared_pipe_state.hpp"
#include "nm/wait.hpp"
#include "support/wire_rig.hpp"

namespace {

using namespace nm;

pipe_custody make_box(index_t slots = 8) {
    pipe_geometry g;
    g.tx_slots = slots;
    g.rx_slots = 2 * slots;
    auto c = pipe_custody::make(g, nullptr, "p{1");
    EXPECT_TRUE(c) << c.error().text;
    return std::move(*c);
}
std::vector<base::unique_fd> copies(const pipe_custody& c) {
    std::vector<base::unique_fd> out;
    for (const int fd : c.fds()) out.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    return out;
}
/// Whether an end can be made of it, and used; the sentence otherwise.
result<std::shared_ptr<shared_pipe_end>> take(std::string_view payload, std::vector<base::unique_fd> fds, bool slave = false) {
    auto c = pipe_custody::from(payload, std::move(fds), "p{1");
    if (!c) return forward_error(c);
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    const base::unique_fd host(pair[1]);
    auto end = std::make_shared<shared_pipe_end>();
    if (auto ok = end->build(std::move(*c), sys::control_channel(base::unique_fd(pair[0])), true, slave, nullptr, "p{1"); !ok) return forward_error(ok);
    return end;
}

TEST(shared_pipe_box, what_is_kept_opens_and_carries) {
    const pipe_custody box = make_box();
    auto a = take(box.geometry.bytes(), copies(box));
    auto b = take(box.geometry.bytes(), copies(box), true);
    ASSERT_TRUE(a) << a.error().text;
    ASSERT_TRUE(b) << b.error().text;
    EXPECT_EQ(generate((*a)->tx[0], 20, [](frame& f) noexcept { f.resize(60); }), 7U);
    EXPECT_EQ(drain((*b)->rx[0], 20), 7U);
    EXPECT_EQ(generate((*b)->tx[0], 20, [](frame& f) noexcept { f.resize(60); }), 15U);
    EXPECT_EQ(drain((*a)->rx[0], 20), 15U);
}

TEST(shared_pipe_box, every_number_in_it_may_be_anything) {
    const pipe_custody box = make_box();
    constexpr std::uint32_t odd[] = {0, 1, 2, 3, 63, 64, 4095, 16384, 16385, 0x7fffffff, 0x80000000, 0xffffffc0, 0xffffffff};
    unsigned refused = 0;
    for (std::size_t at = 0; at + 4 <= sizeof(pipe_geometry); at += 4)
        for (const std::uint32_t value : odd) {
            std::string bytes = box.geometry.bytes();
            std::memcpy(bytes.data() + at, &value, 4);
            auto end = take(bytes, copies(box));
            if (!end) {
                ++refused;
                EXPECT_FALSE(end.error().text.empty());
                continue;
            }
            // It fits: then it is as good as any other.
            (void)generate((*end)->tx[0], 100, [](frame& f) noexcept { std::memset(f.data(), 1, 60); f.resize(60); });
            (void)drain((*end)->rx[0], 100, [](frame& f) noexcept { (void)f.data()[0]; });
        }
    EXPECT_GT(refused, 100U);
    EXPECT_FALSE(take(box.geometry.bytes() + "x", copies(box)));
    EXPECT_FALSE(take("", copies(box)));
}

TEST(shared_pipe_box, descriptors_may_be_anything) {
    const auto payload = make_box().geometry.bytes();
    const auto try_with = [&](const std::function<void(std::vector<base::unique_fd>&)>& change) {
        const pipe_custody box = make_box();
        auto fds = copies(box);
        change(fds);
        return take(payload, std::move(fds)).has_value();
    };
    const auto memfd = [](std::size_t size, int seals) {
        base::unique_fd fd(::memfd_create("villain", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
        EXPECT_EQ(seals == 0 ? 0 : ::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
        return fd;
    };
    EXPECT_TRUE(try_with([](auto&) {}));
    EXPECT_FALSE(try_with([](auto& f) { f.pop_back(); }));
    EXPECT_FALSE(try_with([](auto& f) { f.emplace_back(::eventfd(0, EFD_CLOEXEC)); }));
    for (const std::size_t which : {std::size_t{0}, std::size_t{1}}) {
        EXPECT_TRUE(try_with([&](auto& f) { f[which] = memfd(64 << 20, F_SEAL_SHRINK); }));
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = memfd(64 << 20, 0); })) << "it could be made smaller";
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = memfd(1024, F_SEAL_SHRINK); })) << "it is smaller than it is said to be";
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); }));
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::open("/dev/zero", O_RDWR | O_CLOEXEC)); }));
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::eventfd(0, EFD_CLOEXEC)); }));
    }
    for (const std::size_t which : {std::size_t{2}, std::size_t{3}}) {
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::eventfd(0, EFD_CLOEXEC)); })) << "the other side could make a sync wait";
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }));
        EXPECT_FALSE(try_with([&](auto& f) { f[which] = base::unique_fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); }));
    }
}

TEST(shared_pipe_box, indexes_that_were_written_over_are_refused) {
    for (const std::uint32_t value : {8U, 0x80000000U, 0xffffffffU})
        for (const bool head : {false, true}) {
            const pipe_custody box = make_box();
            auto map = base::map_sealed(box.wires.get(), pipe_wires::bytes(box.geometry));
            ASSERT_TRUE(map);
            const auto w = pipe_wires(map->data(), box.geometry).at(0, 0);
            if (head) w.link->head.store(value);
            else w.link->tail.store(value);
            EXPECT_FALSE(take(box.geometry.bytes(), copies(box)));
        }
}

// Sealed memory can still be made zero (fallocate(2), FALLOC_FL_PUNCH_HOLE), and wakes are the other side's to fill.
TEST(shared_pipe_box, memory_that_becomes_zero_and_wakes_that_are_full_stop_nobody) {
    const pipe_custody box = make_box();
    auto end = take(box.geometry.bytes(), copies(box));
    auto peer = take(box.geometry.bytes(), copies(box), true);
    ASSERT_TRUE(end && peer);
    auto& tx = (*end)->tx[0];
    auto& rx = (*end)->rx[0];
    for (unsigned round = 0; round < 20; ++round) {
        (void)generate((*peer)->tx[0], round, [](frame& f) noexcept { f.resize(60); });
        (void)generate(tx, round, [](frame& f) noexcept { f.resize(60); });
        if (round % 2 == 0) (void)rx.rxsync();
        for (const int fd : {box.bufs.get(), box.wires.get()}) {
            struct stat st {};
            ASSERT_EQ(::fstat(fd, &st), 0);
            ASSERT_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size), 0);
        }
        for (const auto* side : {&box.wakes[0], &box.wakes[1]}) {
            const int fd = side->front().get();
            const std::string path = "/proc/self/fd/" + std::to_string(fd);
            const base::unique_fd writer(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
            const char junk[4096] = {};
            while (::write(writer.get(), junk, sizeof junk) > 0) {}
            ASSERT_EQ(::fcntl(fd, F_SETFL, 0), 0);  // reads and writes by this open file wait from now on
        }
        (*end)->arm(events::rx | events::tx, (*end)->view(port_spec{}));
        (void)drain(rx, 100);
        (void)tx.txsync();
    }
    EXPECT_LE(rx.stats().frames, 200U);
    EXPECT_GT(tx.stats().reinits + rx.stats().reinits, 0U);
}

TEST(pipe_wire, two_threads_on_one_mapping) {
    test::wire_rig r(32);
    constexpr std::uint32_t total = 20'000;
    std::thread sender([&] {
        std::uint32_t next = 0;
        while (next != total) {
            const auto n = generate(*r.tx, std::min(7U, total - next), [&](frame& f) noexcept {
                std::memcpy(f.data(), &next, sizeof next);
                ++next;
                f.resize(60);
            });
            if (n == 0) std::this_thread::yield();
        }
    });
    // The receiver keeps a buffer each time and gives another back.
    std::uint32_t expected = 0, held = 70;
    while (expected != total) {
        if (r.rx->rxsync() == 0) std::this_thread::yield();
        for (; !r.rx->empty(); r.rx->advance()) {
            std::uint32_t number = 0;
            std::memcpy(&number, r.rx->buf(), sizeof number);
            ASSERT_EQ(number, expected);
            ++expected;
            if (expected % 3 == 0) std::swap(r.rx->slot().buf_idx, held);
        }
    }
    sender.join();
    EXPECT_EQ(r.rx->stats().frames, total);
    EXPECT_EQ(r.rx->stats().dropped() + r.rx->stats().reinits + r.tx->stats().reinits, 0U);
}

}  // namespace
