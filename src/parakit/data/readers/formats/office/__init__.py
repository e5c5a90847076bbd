"""Office documents: Word, PowerPoint, Excel, OpenDocument and RTF."""
