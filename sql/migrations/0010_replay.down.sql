DROP TABLE replay;
