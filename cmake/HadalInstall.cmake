# cmake --install: the program, recipes, licence, and the shell completions it prints itself.

if(TARGET hadal)
  install(TARGETS hadal RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(EXISTS ${CMAKE_SOURCE_DIR}/recipes)
    install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/hadal)
  endif()
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
  if(NOT CMAKE_CROSSCOMPILING)
    foreach(shell_and_file bash:bash-completion/completions/hadal zsh:zsh/site-functions/_hadal
            fish:fish/vendor_completions.d/hadal.fish)
      string(REPLACE ":" ";" pair ${shell_and_file})
      list(GET pair 0 shell)
      list(GET pair 1 file)
      install(CODE "
        execute_process(COMMAND \"$<TARGET_FILE:hadal>\" completion ${shell}
                        OUTPUT_VARIABLE script RESULT_VARIABLE status ERROR_QUIET)
        if(status EQUAL 0 AND script)
          set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/${file}\")
          file(WRITE \"\${file}\" \"\${script}\")
          message(STATUS \"Installing: \${file}\")
        endif()")
    endforeach()
  endif()
endif()
