# SPDX-License-Identifier: BSD-2-Clause
# The target `docs`: the API reference, by Doxygen, in reference/html of the build tree. A warning fails it.
find_program(NM_DOXYGEN doxygen)
mark_as_advanced(NM_DOXYGEN)
if(NM_DOXYGEN)
    configure_file("${PROJECT_SOURCE_DIR}/docs/Doxyfile.in" "${PROJECT_BINARY_DIR}/Doxyfile" @ONLY)
    add_custom_target(docs COMMAND ${NM_DOXYGEN} "${PROJECT_BINARY_DIR}/Doxyfile" COMMENT "reference/html/index.html" VERBATIM)
else()
    message(STATUS "target docs left out: doxygen not found (scripts/install-deps)")
endif()
