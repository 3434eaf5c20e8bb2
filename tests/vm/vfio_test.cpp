// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "../../src/vfio_space.hpp"
#include "nm/base/os.hpp"
#include "nm/sys/vfio.hpp"

// What nm::sys::vfio_device promises, seen from a device: an 82574 or 82540 of QEMU's at $NIC. Its registers are in the 82574
// datasheet's section 10.2.
namespace {

using nm::sys::irq_kind;
using nm::sys::vfio_device;
using nm::sys::vfio_options;

constexpr std::size_t page = 4096, huge = std::size_t{2} << 20;

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : value;
}
std::string nic() { return environment("NIC"); }

class registers {
public:
    explicit registers(nm::sys::bar_memory bar) : bar_(bar) {}
    [[nodiscard]] std::uint32_t read(std::size_t at) const { return *word(at); }
    void write(std::size_t at, std::uint32_t value) const { *word(at) = value; }

private:
    [[nodiscard]] volatile std::uint32_t* word(std::size_t at) const {
        return reinterpret_cast<volatile std::uint32_t*>(bar_.at + at);
    }
    nm::sys::bar_memory bar_;
};
constexpr std::size_t ctrl = 0x0, status = 0x8, ctrl_ext = 0x18, icr = 0xc0, ics = 0xc8, ims = 0xd0, imc = 0xd8, ivar = 0xe4, tctl = 0x400,
                      tdbal = 0x3800, tdbah = 0x3804, tdlen = 0x3808, tdh = 0x3810, tdt = 0x3818;

#define NM_OPEN(name, ...)                          \
    auto name##_r = vfio_device::open(__VA_ARGS__); \
    ASSERT_TRUE(name##_r) << name##_r.error().text; \
    auto name = std::move(*name##_r)

/// The device sends one frame out of this memory and writes into it that it has: so it reaches it. 16 KiB are enough.
bool sends_from(vfio_device& device, std::byte* memory, std::uint64_t iova) {
    auto bar = device.map_bar(0);
    if (!bar || !device.bus_master(true)) return false;
    const registers r(*bar);
    r.write(imc, ~0U);
    r.write(ctrl, r.read(ctrl) | 1U << 26);  // RST
    ::usleep(2000);
    r.write(imc, ~0U);
    auto* const descriptor = reinterpret_cast<volatile std::uint64_t*>(memory);
    std::memset(memory, 0, 2 * page);
    std::memset(memory + page, 0xff, 12);
    descriptor[0] = iova + page;
    descriptor[1] = 60 | (std::uint64_t{1 | 2 | 8} << 24);  // EOP, IFCS, RS
    r.write(tdbal, static_cast<std::uint32_t>(iova));
    r.write(tdbah, static_cast<std::uint32_t>(iova >> 32));
    r.write(tdlen, 128);
    r.write(tdh, 0);
    r.write(tdt, 0);
    r.write(tctl, 1U << 1 | 1U << 3);  // EN, PSP
    std::atomic_thread_fence(std::memory_order_seq_cst);
    r.write(tdt, 1);
    for (int i = 0; i < 200; ++i) {
        if ((descriptor[1] >> 32 & 1) != 0) return true;  // DD
        ::usleep(1000);
    }
    return false;
}

bool wakes(int fd, int milliseconds) {
    pollfd p{fd, POLLIN, 0};
    if (::poll(&p, 1, milliseconds) != 1) return false;
    nm::base::eventfd_clear(fd);
    return true;
}

/// Runs it in a child; its exit status.
template <class Work>
int in_child(Work work) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(work());
    int how = -1;
    ::waitpid(pid, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 256 + WTERMSIG(how);
}

TEST(Vfio, OpensAndClosesFiftyTimes) {
    for (int i = 0; i < 50; ++i) {
        NM_OPEN(d, nic());
        auto bar = d.map_bar(0);
        ASSERT_TRUE(bar) << bar.error().text;
        EXPECT_GE(bar->size, 0x20000U);
        EXPECT_NE(registers(*bar).read(status), ~0U);
        EXPECT_EQ(d.map_bar(0)->at, bar->at);
    }
}

TEST(Vfio, OpensAfterAProgramWasKilled) {
    for (int i = 0; i < 10; ++i) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t pid = ::fork();
        if (pid == 0) {
            auto d = vfio_device::open(nic());
            auto memory = nm::base::map(64 * page, MAP_PRIVATE | MAP_ANONYMOUS);
            const bool ok = d && memory && d->map_bar(0) && d->dma_map(memory->data(), 64 * page) && d->bus_master(true);
            (void)!::write(ready[1], ok ? "y" : "n", 1);
            for (;;) ::pause();
        }
        char answer = 0;
        ASSERT_EQ(::read(ready[0], &answer, 1), 1);
        ASSERT_EQ(answer, 'y');
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        ::close(ready[0]);
        ::close(ready[1]);
        NM_OPEN(d, nic());
        EXPECT_EQ(d.config_read(4, 2) & 4, 0U) << "its DMA is still on";
    }
}

TEST(Vfio, KnowsItsDevice) {
    NM_OPEN(d, nic());
    EXPECT_EQ(d.info().address, nic());
    EXPECT_EQ(d.info().driver, "vfio-pci");
    EXPECT_FALSE(d.info().iommu_group.empty());
    EXPECT_FALSE(d.no_iommu());
    EXPECT_EQ(d.config_read(0, 2), d.info().ids.vendor);
    EXPECT_EQ(d.config_read(0, 4) >> 16, d.info().ids.device);
    EXPECT_EQ(d.config_read(0, 3), ~0U);
    EXPECT_EQ(d.config_read(1 << 20, 4), ~0U);
    EXPECT_FALSE(d.config_write(1 << 20, 4, 0));
    ASSERT_TRUE(d.bus_master(true));
    EXPECT_NE(d.config_read(4, 2) & 4, 0U);
    ASSERT_TRUE(d.bus_master(false));
    EXPECT_EQ(d.config_read(4, 2) & 4, 0U);
    EXPECT_TRUE(nm::sys::query_pci(nic())->in_use);
}

TEST(Vfio, SaysWhichBarsCannotBeMapped) {
    NM_OPEN(d, nic());
    auto none = d.map_bar(6);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code.value(), ENODEV);
    for (unsigned i = 0; i < 6; ++i) {
        const auto b = d.map_bar(i);
        if (b) continue;
        EXPECT_EQ(b.error().code.value(), ENODEV);
        EXPECT_TRUE(b.error().text.find("I/O ports") != b.error().text.npos || b.error().text.find("not there") != b.error().text.npos)
            << b.error().text;
    }
}

TEST(Vfio, MsixReachesAnEventfd) {
    NM_OPEN(d, nic());
    ASSERT_EQ(d.irq_count(irq_kind::msix), 5U);
    ASSERT_TRUE(d.bus_master(true));  // such an interrupt is a write to memory
    const registers r(*d.map_bar(0));
    std::vector<nm::base::unique_fd> fds;
    for (int i = 0; i < 5; ++i) fds.push_back(*nm::base::make_eventfd());
    for (const std::size_t n : {3U, 3U, 5U, 1U}) {
        std::vector<int> raw;
        for (std::size_t i = 0; i < n; ++i) raw.push_back(fds[i].get());
        auto set = d.set_irqs(irq_kind::msix, raw);
        ASSERT_TRUE(set) << set.error().text;
        const auto last = static_cast<std::uint32_t>(n - 1);
        r.write(imc, ~0U);
        r.write(ctrl_ext, r.read(ctrl_ext) | 1U << 31);
        r.write(ivar, (last | 8) | 1U << 31);  // receive queue 0 signals the last vector
        r.write(ims, 1U << 20);
        for (int i = 0; i < 3; ++i) {
            r.write(ics, 1U << 20);
            EXPECT_TRUE(wakes(fds[last].get(), 1000)) << n << " vectors";
            r.write(icr, 1U << 20);
            r.write(ims, 1U << 20);
        }
    }
    r.write(imc, ~0U);
    auto too_many = d.set_irqs(irq_kind::msix, std::vector<int>(6, fds[0].get()));
    ASSERT_FALSE(too_many);
    EXPECT_EQ(too_many.error().code.value(), EINVAL);
    ASSERT_TRUE(d.set_irqs(irq_kind::msix, {}));
    (void)wakes(fds[0].get(), 50);  // one that was on its way
    r.write(ims, 1U << 20);
    r.write(ics, 1U << 20);
    EXPECT_FALSE(wakes(fds[0].get(), 50));
    r.write(imc, ~0U);
}

TEST(Vfio, IntxReachesAnEventfdOncePerUnmask) {
    NM_OPEN(d, nic());
    ASSERT_EQ(d.irq_count(irq_kind::intx), 1U);
    const registers r(*d.map_bar(0));
    auto fd = *nm::base::make_eventfd();
    const int raw = fd.get();
    auto set = d.set_irqs(irq_kind::intx, {&raw, 1});
    ASSERT_TRUE(set) << set.error().text;
    r.write(imc, ~0U);
    (void)r.read(icr);
    r.write(ims, 1U << 2);
    for (int i = 0; i < 5; ++i) {
        r.write(ics, 1U << 2);
        ASSERT_TRUE(wakes(raw, 1000)) << i;
        EXPECT_FALSE(wakes(raw, 20)) << "it masks itself";
        EXPECT_NE(r.read(icr) & 1U << 2, 0U);
        d.unmask_intx();
    }
    r.write(imc, ~0U);
}

TEST(Vfio, ChangesTheKindOfInterrupt) {
    NM_OPEN(d, nic());
    auto fd = *nm::base::make_eventfd();
    const int raw = fd.get();
    for (const auto kind : {irq_kind::intx, irq_kind::msi, irq_kind::msix, irq_kind::intx}) {
        if (d.irq_count(kind) == 0) {
            EXPECT_EQ(d.set_irqs(kind, {&raw, 1}).error().code.value(), ENODEV);
            continue;
        }
        auto set = d.set_irqs(kind, {&raw, 1});
        EXPECT_TRUE(set) << set.error().text;
    }
}

TEST(Vfio, ReachesHeapMemfdAndHugepages) {
    NM_OPEN(d, nic());
    std::vector<std::byte> heap(64 * page);
    auto* const in_heap = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(heap.data()) + page - 1) / page * page);
    const nm::base::unique_fd file(::memfd_create("nm", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), 16 * page), 0);
    auto shared = nm::base::map(16 * page, MAP_SHARED, file.get());
    auto pages = nm::base::map(2 * huge, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
    ASSERT_TRUE(pages) << pages.error().text;
    struct {
        const char* what;
        std::byte* at;
        std::size_t size;
    } const all[] = {{"heap", in_heap, 32 * page}, {"memfd", shared->data(), 16 * page}, {"hugepages", pages->data(), 2 * huge}};
    for (const auto& m : all) {
        auto iova = d.dma_map(m.at, m.size);
        ASSERT_TRUE(iova) << m.what << ": " << iova.error().text;
        EXPECT_EQ(*iova % huge, 0U);
        EXPECT_NE(*iova, 0U);
        EXPECT_TRUE(sends_from(d, m.at, *iova)) << m.what;
        EXPECT_TRUE(d.dma_unmap(*iova));
        EXPECT_FALSE(d.dma_unmap(*iova));
        EXPECT_FALSE(sends_from(d, m.at, *iova)) << m.what << " is still reached after it was unmapped";
    }
    EXPECT_EQ(d.dma_map(in_heap + 1, page).error().code.value(), EINVAL);
    EXPECT_EQ(d.dma_map(in_heap, 100).error().code.value(), EINVAL);
    void* nothing = ::mmap(nullptr, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_EQ(d.dma_map(nothing, page).error().code.value(), EFAULT);
    ::munmap(nothing, page);
}

TEST(Vfio, KeepsItsMemoryAfterAFork) {
    NM_OPEN(d, nic());
    auto memory = nm::base::map(16 * page, MAP_PRIVATE | MAP_ANONYMOUS);
    auto iova = d.dma_map(memory->data(), 16 * page);
    ASSERT_TRUE(iova) << iova.error().text;
    int hold[2];
    ASSERT_EQ(::pipe(hold), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
        char c = 0;
        ::close(hold[1]);
        (void)!::read(hold[0], &c, 1);
        ::_exit(0);
    }
    // Written to here, the pages of an ordinary program would now be other ones than the child's, and the device's.
    std::memset(memory->data(), 1, 16 * page);
    EXPECT_TRUE(sends_from(d, memory->data(), *iova));
    ::close(hold[1]);
    ::waitpid(pid, nullptr, 0);
    EXPECT_TRUE(sends_from(d, memory->data(), *iova));
    ::close(hold[0]);
}

TEST(Vfio, GivesAddressesBelowALimitAndAboveTheInterrupts) {
    NM_OPEN(d, nic());
    auto memory = nm::base::map(page, MAP_PRIVATE | MAP_ANONYMOUS);
    auto a = d.dma_map(memory->data(), page, 32);
    ASSERT_TRUE(a) << a.error().text;
    EXPECT_LT(*a, std::uint64_t{1} << 32);
    auto none = d.dma_map(memory->data(), page, 21);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code.value(), ENOSPC);
    EXPECT_NE(none.error().text.find("21 bits"), std::string::npos) << none.error().text;
    // One page again and again, until 32 bits are full: 2046 of 2 MiB, less the interrupts at 0xfee00000.
    unsigned n = 1;
    for (;; ++n) {
        auto more = d.dma_map(memory->data(), page, 32);
        if (!more) {
            EXPECT_EQ(more.error().code.value(), ENOSPC);
            EXPECT_NE(more.error().text.find("used up"), std::string::npos) << more.error().text;
            break;
        }
        EXPECT_FALSE(*more <= 0xfeefffff && *more + page > 0xfee00000);
        ASSERT_LT(n, 2048U);
    }
    EXPECT_GT(n, 2000U);
    EXPECT_TRUE(d.dma_map(memory->data(), page)) << "above there is room";
    // More than 39 bits have.
    EXPECT_EQ(d.dma_map(memory->data(), std::size_t{1} << 46).error().code.value(), ENOSPC);
}

TEST(Vfio, SaysWhatMemlockLimitItTakes) {
    const int code = in_child([] {
        // The bus, the device and the group are root's to open; the limit is not for CAP_IPC_LOCK (14).
        auto d = vfio_device::open(nic());
        if (!d) return 1;
        const rlimit limit{1 << 20, 1 << 20};
        if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || ::setuid(1000) != 0) return 2;
        auto memory = nm::base::map(huge, MAP_PRIVATE | MAP_ANONYMOUS);
        auto small = d->dma_map(memory->data(), huge / 4);
        if (!small) return 3;
        auto iova = d->dma_map(memory->data(), huge);
        if (iova || iova.error().code.value() != ENOMEM) return 4;
        std::fprintf(stderr, "%s\n", iova.error().text.c_str());
        return iova.error().text.find("ulimit -l 2560") == std::string::npos ? 5 : 0;
    });
    EXPECT_EQ(code, 0);
}

TEST(Vfio, SaysWhoHasTheDevice) {
    NM_OPEN(d, nic());
    auto again = vfio_device::open(nic());
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code.value(), EBUSY);
    EXPECT_NE(again.error().text.find("this program itself"), std::string::npos) << again.error().text;
    // A child without our descriptors, as any other program would be.
    const auto parent = std::to_string(::getpid());
    const int code = in_child([&] {
        ::close_range(3, ~0U, 0);
        auto other = vfio_device::open(nic());
        if (other || other.error().code.value() != EBUSY) return 1;
        std::fprintf(stderr, "%s\n", other.error().text.c_str());
        return other.error().text.find("(process " + parent + ")") == std::string::npos ? 2 : 0;
    });
    EXPECT_EQ(code, 0);
    auto unbound = nm::sys::bind_to_kernel(nic());
    ASSERT_FALSE(unbound);
    EXPECT_EQ(unbound.error().code.value(), EBUSY);
}

TEST(Vfio, TakesNoPermissionForAnAnswer) {
    const int code = in_child([] {
        if (::setuid(1000) != 0) return 1;
        auto d = vfio_device::open(nic());
        if (d || d.error().code.value() != EACCES) return 2;
        std::fprintf(stderr, "%s\n", d.error().text.c_str());
        return d.error().text.find("chown") == std::string::npos ? 3 : 0;
    });
    EXPECT_EQ(code, 0);
}

TEST(Vfio, ResetsWhereTheKernelKnowsHow) {
    NM_OPEN(d, nic());
    auto r = d.reset();
    if (environment("RESET") == "yes") {
        EXPECT_TRUE(r) << r.error().text;
    } else {
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code.value(), ENOTTY);
    }
    EXPECT_NE(registers(*d.map_bar(0)).read(status), ~0U);
}

TEST(Vfio, MovesWithItsMappings) {
    NM_OPEN(a, nic());
    auto memory = nm::base::map(16 * page, MAP_PRIVATE | MAP_ANONYMOUS);
    auto iova = a.dma_map(memory->data(), 16 * page);
    ASSERT_TRUE(iova);
    auto b = std::move(a);
    EXPECT_TRUE(sends_from(b, memory->data(), *iova));
}

/// What /proc/self/maps says of a page: "rw-s"; empty: nothing.
std::string mode_of(const std::byte* at) {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    while (std::getline(maps, line)) {
        unsigned long from = 0, to = 0;
        char mode[5] = {};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, mode) != 3) continue;
        const auto here = reinterpret_cast<std::uintptr_t>(at);
        if (from <= here && here < to) return mode;
    }
    return {};
}

// $TABLE: a device whose BAR1 begins with an MSI-X table of one page; pending bits follow it.
TEST(VfioBar, HasAHoleWhereTheMsixTableIs) {
    NM_OPEN(d, environment("TABLE"));
    ASSERT_EQ(d.irq_count(irq_kind::msix), 256U);
    auto bar = d.map_bar(1);
    ASSERT_TRUE(bar) << bar.error().text;
    ASSERT_GE(bar->size, 2 * page);
    EXPECT_EQ(mode_of(bar->at), "---p");
    EXPECT_EQ(mode_of(bar->at + page), "rw-s");
    EXPECT_EQ(mode_of(bar->at + bar->size - page), "rw-s");
    // Its interrupts work all the same: as many as one processor has numbers for, but not more.
    auto fd = *nm::base::make_eventfd();
    auto set = d.set_irqs(irq_kind::msix, std::vector<int>(100, fd.get()));
    EXPECT_TRUE(set) << set.error().text;
    set = d.set_irqs(irq_kind::msix, std::vector<int>(256, fd.get()));
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code.value(), ENOSPC);
    set = d.set_irqs(irq_kind::msix, std::vector<int>(2, fd.get()));
    EXPECT_TRUE(set) << set.error().text;
}

// $MEMORY: an ivshmem-plain device, whose BAR2 is its memory.
TEST(VfioBar, OfOneDeviceIsReachedByAnother) {
    NM_OPEN(d, nic());
    NM_OPEN(m, environment("MEMORY"));
    auto bar = m.map_bar(2);
    ASSERT_TRUE(bar) << bar.error().text;
    auto iova = d.dma_map(bar->at, bar->size);
    ASSERT_TRUE(iova) << iova.error().text;
    EXPECT_TRUE(sends_from(d, bar->at, *iova));
    EXPECT_TRUE(d.dma_unmap(*iova));
}

// $NIC is the kernel's.
TEST(VfioRefused, SaysHowToBind) {
    auto d = vfio_device::open(nic());
    ASSERT_FALSE(d);
    const auto info = nm::sys::query_pci(nic());
    const auto expected = info->driver.empty() ? nic() + " has no driver; bind it with: nmctl bind " + nic()
                                               : nic() + " is bound to " + info->driver + "; bind it with: nmctl bind " + nic();
    EXPECT_EQ(d.error().text, expected);
    EXPECT_EQ(d.error().code.value(), info->driver.empty() ? ENODEV : EBUSY);
    EXPECT_EQ(vfio_device::open("0000:7f:00.0").error().code.value(), ENODEV);
    EXPECT_EQ(vfio_device::open("eth0").error().code.value(), EINVAL);
}

// $NIC and $MATE share a group, and $MATE is the kernel's.
TEST(VfioRefused, NamesTheOthersOfItsGroup) {
    auto d = vfio_device::open(nic());
    ASSERT_FALSE(d);
    EXPECT_EQ(d.error().code.value(), EBUSY);
    EXPECT_NE(d.error().text.find("nmctl bind " + environment("MATE")), std::string::npos) << d.error().text;
}

// What stands in for an IOMMU's addresses where there is none.
TEST(VfioHugepages, HaveAPhysicalAddress) {
    for (int i = 0; i < 4; ++i) {
        auto memory = nm::base::map(huge, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
        ASSERT_TRUE(memory) << memory.error().text;
        auto at = nm::sys::physical_address(memory->data(), huge);
        ASSERT_TRUE(at) << at.error().text;
        EXPECT_EQ(*at % huge, 0U);
        EXPECT_EQ(*nm::sys::physical_address(memory->data() + page, page), *at + page);
    }
    // Several: one after the other, or refused.
    auto memory = nm::base::map(4 * huge, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
    ASSERT_TRUE(memory) << memory.error().text;
    auto all = nm::sys::physical_address(memory->data(), 4 * huge);
    bool in_line = true;
    for (std::size_t i = 1; i < 4; ++i)
        in_line = in_line && *nm::sys::physical_address(memory->data() + i * huge, huge) ==
                                 *nm::sys::physical_address(memory->data(), huge) + i * huge;
    EXPECT_EQ(all.has_value(), in_line);
    if (!all) {
        EXPECT_NE(all.error().text.find("do not follow each other"), std::string::npos) << all.error().text;
    }
}

TEST(VfioBinding, GoesRoundAndRound) {
    const auto driver = nm::sys::query_pci(nic())->driver;
    for (int i = 0; i < 5; ++i) {
        auto to = nm::sys::bind_to_vfio(nic());
        ASSERT_TRUE(to) << to.error().text;
        EXPECT_TRUE(nm::sys::bind_to_vfio(nic()));
        EXPECT_EQ(nm::sys::query_pci(nic())->driver, "vfio-pci");
        auto back = nm::sys::bind_to_kernel(nic());
        ASSERT_TRUE(back) << back.error().text;
        EXPECT_TRUE(nm::sys::bind_to_kernel(nic()));
        EXPECT_EQ(nm::sys::query_pci(nic())->driver, driver);
    }
}

}  // namespace
