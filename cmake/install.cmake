# SPDX-License-Identifier: BSD-2-Clause
# Everything found from where it lies, so that an installed tree may be moved: no absolute path is written anywhere.
include(CMakePackageConfigHelpers)

set(cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/nm")
install(TARGETS nm_nm EXPORT nm-targets FILE_SET HEADERS COMPONENT devel)
install(EXPORT nm-targets NAMESPACE nm:: DESTINATION "${cmake_dir}" COMPONENT devel)

set(NM_SYS_REQUIRES "")
if(TARGET nm_sys)
    install(TARGETS nm_sys EXPORT nm-sys-targets ARCHIVE COMPONENT devel)
    install(EXPORT nm-sys-targets NAMESPACE nm:: DESTINATION "${cmake_dir}" COMPONENT devel)
    get_target_property(NM_SYS_REQUIRES nm_sys NM_REQUIRES)
    if(NOT NM_SYS_REQUIRES)
        set(NM_SYS_REQUIRES "")
    endif()
endif()

configure_package_config_file(cmake/nm-config.cmake.in nm-config.cmake INSTALL_DESTINATION "${cmake_dir}")
write_basic_package_version_file(nm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/nm-config.cmake" "${PROJECT_BINARY_DIR}/nm-config-version.cmake"
        DESTINATION "${cmake_dir}" COMPONENT devel)

set(pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH NM_PC_PREFIX "${pc_dir}" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH NM_PC_INCLUDE "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
file(RELATIVE_PATH NM_PC_LIB "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_LIBDIR}")
string(REGEX REPLACE "/$" "" NM_PC_PREFIX "${NM_PC_PREFIX}")
string(REPLACE ";" " " NM_PC_REQUIRES "${NM_SYS_REQUIRES}")
set(packages nm)
if(TARGET nm_sys)
    list(APPEND packages nm-sys)
endif()
foreach(package ${packages})
    configure_file(cmake/${package}.pc.in ${package}.pc @ONLY)
    install(FILES "${PROJECT_BINARY_DIR}/${package}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT devel)
endforeach()

if(PROJECT_IS_TOP_LEVEL)
    add_custom_target(uninstall COMMAND "${CMAKE_COMMAND}" "-DBUILD=${PROJECT_BINARY_DIR}" -P "${PROJECT_SOURCE_DIR}/cmake/uninstall.cmake" VERBATIM)
endif()
