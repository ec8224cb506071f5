# Files as strings in the binary, so that it needs none beside it.
#   hadal_embed(HEADER cli/x.h NAME kX FILES a b)   the files one after another
function(hadal_embed)
  cmake_parse_arguments(arg "" "HEADER;NAME" "FILES" ${ARGN})
  set(text "")
  foreach(file IN LISTS arg_FILES)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${file})
    file(READ ${CMAKE_SOURCE_DIR}/${file} part)
    string(APPEND text "${part}")
  endforeach()
  set(name ${arg_NAME})
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/${arg_HEADER} @ONLY CONTENT [[
#pragma once
namespace hadal {
inline constexpr char @name@[] = R"embedded(@text@)embedded";
}  // namespace hadal
]])
endfunction()

# `hadal demo` runs on a machine with no files at all; `hadal report` writes a page in one piece.
hadal_embed(HEADER cli/demo_recipe.h NAME kDemoRecipe FILES recipes/demo.toml)
hadal_embed(HEADER cli/report_page.h NAME kReportPage FILES web/report/page.html)
hadal_embed(HEADER cli/report_style.h NAME kReportStyle FILES web/report/style.css)
hadal_embed(HEADER cli/report_script.h NAME kReportScript
            FILES web/report/chart.js web/report/panels.js web/report/main.js)
