// SPDX-License-Identifier: BSD-2-Clause

// Group and container. Source: the kernel's Documentation/driver-api/vfio.rst.

#include <cstring>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vfio_space.hpp"

namespace nm::sys {

using base::errno_text;
using base::unique_fd;

result<unique_fd> open_node(const pci_info& info, const pci::device_nodes& nodes, const std::string& path) {
    // A program that was killed lets go of its descriptors a little after it is gone from the list of processes.
    constexpr int tries = 40;
    for (int i = 0;; ++i) {
        unique_fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        if (fd) return fd;
        const int error_number = errno;
        switch (error_number) {
        case EBUSY: {
            const auto users = pci::users_of({}, nodes);
            if (users.empty() && i < tries) {
                const timespec pause{0, 5'000'000};
                (void)::nanosleep(&pause, nullptr);
                continue;
            }
            return fail(EBUSY, info.address + (pci::shares_group({}, info) ? ", or another device of its IOMMU group," : "") + " is in use" +
                                   pci::by_whom(users) +
                                   (users.empty() ? " (" + path + " is open elsewhere)" : "") + "; end that first");
        }
        case EACCES:
        case EPERM:
            return fail(error_number, "no permission to open " + path + ", which is " + info.address +
                                          (nodes.no_iommu ? ": without an IOMMU it takes root (CAP_SYS_RAWIO)"
                                                          : ": run as root, or give it to this user once: sudo chown $USER " + path));
        case ENOENT:
            return fail(ENOENT, path + " is not there, though vfio-pci has " + info.address +
                                    "; is udev running, or /dev another file system than the kernel's?");
        default: return fail(error_number, "cannot open " + path + ": " + errno_text(error_number));
        }
    }
}

namespace {

class container final : public vfio_space {
public:
    unique_fd fd, group;
    bool translates = true;

    ~container() override {
        group.reset();  // the group first: it is what holds on to the container
        fd.reset();
    }

    [[nodiscard]] std::vector<iova_range> ranges() const override {
        std::vector<std::byte> buffer(sizeof(vfio_iommu_type1_info));
        for (int i = 0; i < 4; ++i) {
            vfio_iommu_type1_info head{};
            head.argsz = static_cast<std::uint32_t>(buffer.size());
            std::memcpy(buffer.data(), &head, sizeof head);
            if (::ioctl(fd.get(), VFIO_IOMMU_GET_INFO, buffer.data()) != 0) return iova_space::usual();
            std::memcpy(&head, buffer.data(), sizeof head);
            if (head.argsz > buffer.size()) {
                buffer.assign(head.argsz, std::byte{0});
                continue;
            }
            if ((head.flags & VFIO_IOMMU_INFO_CAPS) == 0) break;
            return find_ranges(buffer, head.cap_offset);
        }
        return iova_space::usual();
    }

    [[nodiscard]] int map(void* memory, std::uint64_t size, std::uint64_t iova) noexcept override {
        vfio_iommu_type1_dma_map m{};
        m.argsz = sizeof m;
        m.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        m.vaddr = reinterpret_cast<std::uintptr_t>(memory);
        m.iova = iova;
        m.size = size;
        return ::ioctl(fd.get(), VFIO_IOMMU_MAP_DMA, &m) == 0 ? 0 : errno;
    }
    [[nodiscard]] int unmap(std::uint64_t iova, std::uint64_t size) noexcept override {
        vfio_iommu_type1_dma_unmap m{};
        m.argsz = sizeof m;
        m.iova = iova;
        m.size = size;
        return ::ioctl(fd.get(), VFIO_IOMMU_UNMAP_DMA, &m) == 0 ? 0 : errno;
    }

private:
    static std::vector<iova_range> find_ranges(const std::vector<std::byte>& buffer, std::size_t at) {
        const auto fits = [&](std::size_t from, std::size_t n) { return from <= buffer.size() && n <= buffer.size() - from; };
        for (int links = 0; at != 0 && links < 64 && fits(at, sizeof(vfio_info_cap_header)); ++links) {
            vfio_info_cap_header head{};
            std::memcpy(&head, buffer.data() + at, sizeof head);
            capability_list list;
            if (head.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE && fits(at, sizeof list)) {
                std::memcpy(&list, buffer.data() + at, sizeof list);
                std::vector<iova_range> found;
                auto from = at + sizeof list;
                for (std::uint32_t i = 0; i < list.count && fits(from, sizeof(vfio_iova_range)); ++i) {
                    vfio_iova_range r{};
                    std::memcpy(&r, buffer.data() + from, sizeof r);
                    found.push_back({r.start, r.end});
                    from += sizeof r;
                }
                return found;
            }
            at = head.next;
        }
        return iova_space::usual();
    }
};

std::string mates_sentence(const pci_info& info) {
    std::string names, commands;
    for (const auto& mate : info.group_mates) {
        names += (names.empty() ? "" : ", ") + mate;
        commands += " " + mate;
    }
    if (names.empty()) return "another device of its IOMMU group is still the kernel's; see: nmctl bind";
    return names + (info.group_mates.size() == 1 ? " is" : " are") + " in the same IOMMU group (" + info.iommu_group +
           ") and still the kernel's. What is in one group can reach each other's memory, so it is given away together: nmctl bind" +
           commands;
}

result<void> set_iommu(const container& c, const pci_info& info, bool no_iommu) {
    const auto has = [&](int type) { return ::ioctl(c.fd.get(), VFIO_CHECK_EXTENSION, type) > 0; };
    const int type = no_iommu ? VFIO_NOIOMMU_IOMMU : has(VFIO_TYPE1v2_IOMMU) ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU;
    if (!has(type))
        return fail(ENODEV, no_iommu ? std::string("this kernel's VFIO has no no-IOMMU mode")
                                     : std::string("the kernel's vfio_iommu_type1 is not loaded: modprobe vfio_iommu_type1"));
    if (::ioctl(c.fd.get(), VFIO_SET_IOMMU, type) == 0) return {};
    const int error_number = errno;
    if (error_number == EPERM && !no_iommu)
        return fail(EPERM, "the kernel does not give " + info.address +
                               " away: this machine's IOMMU does not check interrupts, so that a device could fake any. If it is "
                               "trusted: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1");
    return fail(error_number, "cannot put " + info.address + " behind the IOMMU: " + errno_text(error_number));
}

}  // namespace

result<vfio_opened> open_by_group(const pci_info& info, const pci::device_nodes& nodes) {
    auto c = std::make_unique<container>();
    auto group = open_node(info, nodes, nodes.group);
    if (!group) return forward_error(group);
    c->group = std::move(*group);
    vfio_group_status status{};
    status.argsz = sizeof status;
    if (::ioctl(c->group.get(), VFIO_GROUP_GET_STATUS, &status) != 0)
        return fail(errno, "cannot ask for the state of " + nodes.group + ": " + errno_text(errno));
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
        return fail(EBUSY, "cannot open " + info.address + ": " + mates_sentence(info));

    c->fd.reset(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
    if (!c->fd) {
        const int error_number = errno;
        return fail(error_number, "cannot open /dev/vfio/vfio: " + errno_text(error_number) +
                                      (error_number == ENOENT ? "; load it with: modprobe vfio" : ""));
    }
    if (const int version = ::ioctl(c->fd.get(), VFIO_GET_API_VERSION); version != VFIO_API_VERSION)
        return fail(EPROTO, "this kernel's VFIO speaks version " + std::to_string(version) + "; known is 0");
    if (int fd = c->fd.get(); ::ioctl(c->group.get(), VFIO_GROUP_SET_CONTAINER, &fd) != 0)
        return fail(errno, "cannot put " + nodes.group + " into a container: " + errno_text(errno));
    if (auto r = set_iommu(*c, info, nodes.no_iommu); !r) return forward_error(r);

    unique_fd device(::ioctl(c->group.get(), VFIO_GROUP_GET_DEVICE_FD, info.address.c_str()));
    if (!device) {
        const int error_number = errno;
        return fail(error_number, "cannot open " + info.address + " through " + nodes.group + ": " + errno_text(error_number) +
                                      (error_number == EBUSY ? pci::by_whom(pci::users_of({}, nodes)) : "; dmesg may say why"));
    }
    vfio_opened opened;
    opened.space = std::move(c);
    opened.device = std::move(device);
    return opened;
}

}  // namespace nm::sys
