"""The commands of a disk, one module per family; a command's function takes (unit, command), returns a plan.

alua                REPORT and SET TARGET PORT GROUPS
capacity            READ CAPACITY(10) and (16)
compare_and_write   COMPARE AND WRITE, ORWRITE, WRITE ATOMIC
copy_results        RECEIVE COPY RESULTS
diagnostic          SEND DIAGNOSTIC, RECEIVE DIAGNOSTIC RESULTS, READ BUFFER, WRITE BUFFER
extended_copy       EXTENDED COPY(LID1)
format_sanitize     FORMAT UNIT, SANITIZE, READ DEFECT DATA
inquiry             INQUIRY
log                 LOG SENSE, LOG SELECT, and the log pages
mode                MODE SENSE, MODE SELECT
persistent_reserve  PERSISTENT RESERVE IN and OUT, RESERVE, RELEASE
provisioning        UNMAP, WRITE SAME, GET LBA STATUS
read_write          READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH
report              REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS, REPORT LUNS
start_stop          TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL
verification        VERIFY, WRITE AND VERIFY
"""
