// SPDX-License-Identifier: BSD-2-Clause

// The device's own node and iommufd. Source: the kernel's Documentation/userspace-api/iommufd.rst and vfio.rst, "VFIO Device
// cdev"; headers older than Linux 6.6 lack what is declared here.

#include <array>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include "vfio_space.hpp"

namespace nm::sys {
namespace {

using base::errno_text;
using base::unique_fd;

constexpr unsigned long bind_request = _IO(VFIO_TYPE, VFIO_BASE + 18);
constexpr unsigned long attach_request = _IO(VFIO_TYPE, VFIO_BASE + 19);
constexpr unsigned long ioas_alloc_request = _IO(VFIO_TYPE, 0x81);
constexpr unsigned long ioas_ranges_request = _IO(VFIO_TYPE, 0x84);
constexpr unsigned long ioas_map_request = _IO(VFIO_TYPE, 0x85);
constexpr unsigned long ioas_unmap_request = _IO(VFIO_TYPE, 0x86);

struct bind_to_iommufd {
    std::uint32_t argsz, flags;
    std::int32_t iommufd;
    std::uint32_t device_id;  // out
};
struct attach_to_table {
    std::uint32_t argsz, flags, table_id;
};
struct ioas_alloc {
    std::uint32_t size, flags, id;  // id: out
};
struct ioas_ranges {
    std::uint32_t size, ioas, count, reserved;
    std::uint64_t ranges, alignment;  // alignment: out
};
struct ioas_map {
    std::uint32_t size, flags, ioas, reserved;
    std::uint64_t memory, length, iova;
};
struct ioas_unmap {
    std::uint32_t size, ioas;
    std::uint64_t iova, length;
};
static_assert(sizeof(ioas_ranges) == 32 && sizeof(ioas_map) == 40 && sizeof(ioas_unmap) == 24);

int kernels_ioctl(int fd, unsigned long request, void* argument) { return ::ioctl(fd, request, argument); }

class address_space final : public vfio_space {
public:
    int (*ioctl)(int, unsigned long, void*) = kernels_ioctl;
    unique_fd fd;
    std::uint32_t id = 0;

    [[nodiscard]] std::vector<iova_range> ranges() const override {
        static_assert(sizeof(iova_range) == 16);  // the kernel's: first, last
        std::array<iova_range, 64> found{};
        ioas_ranges r{sizeof r, id, static_cast<std::uint32_t>(found.size()), 0, reinterpret_cast<std::uintptr_t>(found.data()), 0};
        if (ioctl(fd.get(), ioas_ranges_request, &r) != 0 && errno != EMSGSIZE) return iova_space::usual();
        const auto n = std::min<std::size_t>(r.count, found.size());
        return {found.begin(), found.begin() + static_cast<std::ptrdiff_t>(n)};
    }
    [[nodiscard]] int map(void* memory, std::uint64_t size, std::uint64_t iova) noexcept override {
        constexpr std::uint32_t fixed = 1, writeable = 2, readable = 4;
        ioas_map m{sizeof m, fixed | writeable | readable, id, 0, reinterpret_cast<std::uintptr_t>(memory), size, iova};
        return ioctl(fd.get(), ioas_map_request, &m) == 0 ? 0 : errno;
    }
    [[nodiscard]] int unmap(std::uint64_t iova, std::uint64_t size) noexcept override {
        ioas_unmap m{sizeof m, id, iova, size};
        return ioctl(fd.get(), ioas_unmap_request, &m) == 0 ? 0 : errno;
    }
};

}  // namespace

result<vfio_opened> open_by_iommufd(const pci_info& info, const pci::device_nodes& nodes, const iommufd_calls& calls) {
    auto space = std::make_unique<address_space>();
    if (calls.ioctl != nullptr) space->ioctl = calls.ioctl;
    auto device = open_node(info, nodes, nodes.cdev);
    if (!device) return forward_error(device);
    space->fd.reset(::open(calls.path, O_RDWR | O_CLOEXEC));
    if (!space->fd)
        return fail(errno, std::string("cannot open ") + calls.path + ": " + errno_text(errno) + "; load it with: modprobe iommufd");

    bind_to_iommufd b{sizeof b, 0, space->fd.get(), 0};
    if (space->ioctl(device->get(), bind_request, &b) != 0) {
        const int error_number = errno;
        if (error_number == EINVAL || error_number == EBUSY)
            return fail(EBUSY, info.address + " is in use" + pci::by_whom(pci::users_of({}, nodes)) +
                                   ", or another device of its IOMMU group is; see: nmctl bind");
        return fail(error_number, "cannot bind " + info.address + " to iommufd: " + errno_text(error_number));
    }
    ioas_alloc a{sizeof a, 0, 0};
    if (space->ioctl(space->fd.get(), ioas_alloc_request, &a) != 0)
        return fail(errno, "cannot make an address space in iommufd: " + errno_text(errno));
    space->id = a.id;
    attach_to_table t{sizeof t, 0, a.id};
    if (space->ioctl(device->get(), attach_request, &t) != 0)
        return fail(errno, "cannot put " + info.address + " behind the IOMMU: " + errno_text(errno));
    vfio_opened opened;
    opened.space = std::move(space);
    opened.device = std::move(*device);
    return opened;
}

}  // namespace nm::sys
